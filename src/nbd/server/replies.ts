// Turns the outcome of one request into reply bytes in the connection's output, in the style that was negotiated (proto.md,
// "Transmission phase"). Always: exactly one reply for a request, and where there are chunks an error travels as one, with
// its sentence. An error that is not for clients reaches them as EIO, without what it says, and the log in full.

import type { ServerLog } from '../../guest/log.ts'
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
import type { ContextExtent, Request } from '../wire/transmission-codecs.ts'
import { toldCodeOf } from './guest-errors.ts'
import type { MetaContext } from './meta-contexts.ts'
import type { Output } from './output.ts'

export interface ReplyContext {
  readonly style: ReplyStyle
  readonly exportName: string
  readonly client: string
  readonly log: ServerLog
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
  const code = toldCodeOf(error)
  if (code !== undefined) {
    context.log.debug({ ...facts, code }, `${describe(request)} refused: ${sentence}`)
  } else {
    context.log.error({ ...facts, err: error }, `${describe(request)} failed: ${sentence}`)
  }
  const { style } = context
  if (style.hasChunks) {
    const told = code !== undefined ? sentence : 'the export failed; its log says why'
    output.put(encodeErrorChunk(style, request, code ?? 'EIO', told))
    return
  }
  const bytes = output.reserve(style.headBytes)
  writeSimpleReply(bytes, output.at, request, ErrorNumber[code ?? 'EIO'])
  output.commit(style.headBytes)
}

/** One chunk for each context, in the order of the negotiation. */
export function replyBlockStatus(
  output: Output,
  style: ReplyStyle,
  request: Request,
  contexts: readonly MetaContext[],
  statuses: readonly (readonly ContextExtent[])[],
): void {
  contexts.forEach(({ id }, index) => {
    const flags = index === contexts.length - 1 ? ChunkFlag.done : 0
    output.put(encodeBlockStatusChunk(style, request, flags, id, statuses[index]!))
  })
}
