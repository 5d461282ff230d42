// Turns the outcome of one request into reply bytes in the connection's output, in the style that was negotiated (proto.md,
// "Transmission phase"). Always: exactly one reply for a request, and where there are chunks an error travels as one, with
// its sentence. An error that is not an NbdError reaches the client as EIO, without what it says, and the log in full.

import { NbdError, type StatusExtent } from '../../guest/export.ts'
import { ChunkFlag, ErrorNumber } from '../wire/constants.ts'
import {
  doneBytes,
  encodeBlockStatusChunk,
  encodeErrorChunk,
  type ReplyStyle,
  writeDone,
  writeSimpleReply,
} from '../wire/reply-writers.ts'
import { describe } from '../wire/request-rules.ts'
import type { Request } from '../wire/transmission-codecs.ts'
import type { NbdLog } from './limits.ts'
import type { MetaContext } from './meta-contexts.ts'
import type { Output } from './output.ts'

export interface ReplyContext {
  readonly style: ReplyStyle
  readonly exportName: string
  readonly client: string
  readonly log: NbdLog
}

/** Success without bytes. A READ of nothing is answered here too. */
export function replyDone(output: Output, style: ReplyStyle, request: Request): void {
  const lengthBytes = doneBytes(style, request)
  const bytes = output.reserve(lengthBytes)
  writeDone(bytes, output.at, style, request)
  output.commit(lengthBytes)
}

export function replyError(output: Output, context: ReplyContext, request: Request, error: unknown): void {
  const facts = { client: context.client, export: context.exportName }
  const sentence = error instanceof Error ? error.message : String(error)
  if (error instanceof NbdError) {
    context.log.debug({ ...facts, code: error.code }, `${describe(request)} refused: ${sentence}`)
  } else {
    context.log.error({ ...facts, err: error }, `${describe(request)} failed: ${sentence}`)
  }
  const code = error instanceof NbdError ? error.code : 'EIO'
  const { style } = context
  if (style.hasChunks) {
    const told = error instanceof NbdError ? sentence : 'the export failed; its log says why'
    output.put(encodeErrorChunk(style, request, code, told))
    return
  }
  const bytes = output.reserve(style.headBytes)
  writeSimpleReply(bytes, output.at, request, ErrorNumber[code])
  output.commit(style.headBytes)
}

/** One chunk for each context, in the order of the negotiation. */
export function replyBlockStatus(
  output: Output,
  style: ReplyStyle,
  request: Request,
  contexts: readonly MetaContext[],
  statuses: readonly (readonly StatusExtent[])[],
): void {
  contexts.forEach(({ id }, index) => {
    const flags = index === contexts.length - 1 ? ChunkFlag.done : 0
    output.put(encodeBlockStatusChunk(style, request, flags, id, statuses[index]!))
  })
}

/** Cuts what a handle said to what was asked: at most `limit` extents within `lengthBytes`. Throws if it said nothing. */
export function checkedExtents(
  context: string,
  extents: readonly StatusExtent[],
  lengthBytes: number,
  limit: number,
): readonly StatusExtent[] {
  const checked: StatusExtent[] = []
  let leftBytes = lengthBytes
  for (const extent of extents) {
    if (leftBytes === 0 || checked.length === limit) break
    const partBytes = Math.min(extent.lengthBytes, leftBytes)
    if (partBytes <= 0) throw new Error(`${context}: an extent of ${extent.lengthBytes} bytes`)
    checked.push({ lengthBytes: partBytes, flags: extent.flags })
    leftBytes -= partBytes
  }
  if (checked.length === 0) throw new Error(`${context}: no extent for ${lengthBytes} bytes`)
  return checked
}
