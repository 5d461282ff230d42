// A READ, in chunks, of a range that has holes: OFFSET_HOLE chunks for what reads as zeros, OFFSET_DATA for the rest
// (proto.md, "Structured reply types"). Always: the whole reply is made before any of it is sent, and a range counts as a
// hole only if the export says that it reads as zeros now; what it says nothing of is read.

import { ChunkFlag } from './constants.ts'
import { AllocationFlag, type ExportHandle, type MaybePromise, type StatusExtent } from './export.ts'
import { holeChunkBytes, type ReplyStyle, writeOffsetDataHeader, writeOffsetHole } from './reply-writers.ts'
import type { ReplyTo } from './transmission-codecs.ts'

/** Below this a hole costs more to ask for than its zeros cost to send. */
export const holeProbeMinBytes = 64 * 1024

/** Extents asked for; what lies behind the last one is read as data. */
export const holeProbeExtents = 64

export interface Segment {
  readonly offset: number
  readonly lengthBytes: number
  readonly isHole: boolean
}

/** The range cut into holes and data, neighbours of a kind joined. `extents` may end early or be untrue to the length. */
export function segmentsOf(offset: number, lengthBytes: number, extents: readonly StatusExtent[]): Segment[] {
  const segments: Segment[] = []
  let at = offset
  const end = offset + lengthBytes
  const add = (partBytes: number, isHole: boolean): void => {
    const last = segments.at(-1)
    if (last?.isHole === isHole) segments[segments.length - 1] = { ...last, lengthBytes: last.lengthBytes + partBytes }
    else segments.push({ offset: at, lengthBytes: partBytes, isHole })
    at += partBytes
  }
  for (const extent of extents) {
    const partBytes = Math.min(extent.lengthBytes, end - at)
    if (partBytes > 0) add(partBytes, (extent.flags & AllocationFlag.zero) !== 0)
  }
  if (at < end) add(end - at, false)
  return segments
}

/** The complete reply, all chunks in one piece. Rejects, or throws, what a read of the handle does. */
export function readSegments(
  handle: ExportHandle,
  style: ReplyStyle,
  to: ReplyTo,
  segments: readonly Segment[],
): MaybePromise<Buffer> {
  const holeBytes = holeChunkBytes(style)
  let totalBytes = 0
  for (const segment of segments) {
    totalBytes += segment.isHole ? holeBytes : style.readHeadBytes + segment.lengthBytes
  }
  const reply = Buffer.alloc(totalBytes)
  const waiting: Promise<void>[] = []
  let at = 0
  let failure: { readonly error: unknown } | undefined
  for (const [index, { offset, lengthBytes, isHole }] of segments.entries()) {
    const flags = index === segments.length - 1 ? ChunkFlag.done : 0
    if (isHole) {
      writeOffsetHole(reply, at, style, to, flags, offset, lengthBytes)
      at += holeBytes
      continue
    }
    writeOffsetDataHeader(reply, at, style, to, flags, offset, lengthBytes)
    const bytesAt = at + style.readHeadBytes
    at = bytesAt + lengthBytes
    try {
      const pending = handle.read(offset, reply.subarray(bytesAt, at))
      if (pending !== undefined) waiting.push(pending)
    } catch (error) {
      failure = { error }
      break
    }
  }
  if (waiting.length === 0) {
    if (failure !== undefined) throw failure.error
    return reply
  }
  // All of them, even after one failed: a handle must not fill memory of a request that is over.
  return Promise.allSettled(waiting).then((results) => {
    const rejected = results.find((result) => result.status === 'rejected')
    if (failure !== undefined) throw failure.error
    if (rejected !== undefined) throw rejected.reason
    return reply
  })
}
