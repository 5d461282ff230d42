// The manifest of a move: which range of which disk is which chunk, as of which round. It is published in parts, numbered from 1;
// a reader follows them in order. Pure.
//
// A part is: the length of its head (32 bits, big-endian), the head in JSON, and its ranges one behind the other, each as kind
// (1 byte), offset and length (64 bits each), and for a chunk the SHA-256 of its bytes and the short digests of its steps, if
// the head says of how many bytes a step is. A chunk's name follows from its digest (names.ts).
//
// What always holds:
// - A part is of one disk, one generation, one epoch and one round. A reader that has moved on to another epoch believes none of it.
// - A part names the hash of the part before it, as it was sealed: of two parts with one number at most one is followed.
// - What a part says is bounded and checked here: ranges have a length, lie within the disk, and a chunk is no larger than one may be.

import { createHash } from 'node:crypto'
import { z } from 'zod'
import { shortDigestBytes } from '../block/digest.ts'
import { largestChunkBytes } from './chunking/chunk.ts'
import { RelayError } from './errors.ts'

export type PublishedRange =
  | { readonly kind: 'hole' | 'zero'; readonly offset: number; readonly length: number }
  | {
      readonly kind: 'chunk'
      readonly offset: number
      readonly length: number
      /** SHA-256. */
      readonly digest: Uint8Array
      /** Short digests of its steps, one behind the other; empty: the part has none. */
      readonly steps: Uint8Array
    }

export interface ManifestPart {
  /** Hash of the part before it (hashOfPart); null: it is the first. */
  readonly previous: string | null
  readonly disk: string
  readonly sizeBytes: number
  /** The disk's at the source, when it was read: g before switchover, g+1 for what is published frozen. */
  readonly generation: number
  readonly epoch: string
  readonly round: number
  /** Of its round no part follows, and all chunks that it names were stored before it. */
  readonly endsRound: boolean
  /** Blocks of the disk that are to be copied besides, as it ended the round. */
  readonly left: number
  /** The source has given the disk up: this is how it stays. */
  readonly isFrozen: boolean
  /** 0: chunks have no short digests. */
  readonly stepBytes: number
  readonly ranges: readonly PublishedRange[]
}

export const mostRangesOfPart = 16_384
/** No part is larger, in bytes. */
export const largestPartBytes = 16 * 1024 * 1024
const largestHeadBytes = 4096
const digestBytes = 32
const kinds = ['hole', 'zero', 'chunk'] as const
const rangeBytes = 17
const largestOffset = 2 ** 53 - 1

const count = z.number().int().min(0).max(largestOffset)
const headShape = z.object({
  v: z.literal(1),
  previous: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .nullable(),
  disk: z.uuid(),
  sizeBytes: count,
  generation: count,
  epoch: z.string().min(1).max(64),
  round: count,
  endsRound: z.boolean(),
  left: count,
  isFrozen: z.boolean(),
  stepBytes: z
    .number()
    .int()
    .refine((bytes) => bytes === 0 || (bytes >= 512 && bytes <= largestChunkBytes), { error: 'no size of a step' }),
  ranges: z.number().int().min(0).max(mostRangesOfPart),
})

export function encodePart(part: ManifestPart): Buffer {
  const { ranges, ...head } = part
  const text = Buffer.from(JSON.stringify({ v: 1, ...head, ranges: ranges.length }))
  const length = Buffer.alloc(4)
  length.writeUInt32BE(text.length)
  const encoded = Buffer.concat([length, text, ...ranges.flatMap(encodeRange)])
  decodePart(encoded) // What nobody would understand is not published.
  return encoded
}

/** @throws RelayError `manifest-invalid` */
export function decodePart(bytes: Uint8Array): ManifestPart {
  if (bytes.length > largestPartBytes) throw invalid('is too long')
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const headEnd = view.length < 4 ? Number.POSITIVE_INFINITY : 4 + view.readUInt32BE(0)
  if (headEnd > Math.min(view.length, 4 + largestHeadBytes)) throw invalid('is cut')
  const { ranges: rangeCount, v: _, ...head } = decodeHead(view.toString('utf8', 4, headEnd))
  const ranges: PublishedRange[] = []
  let at = headEnd
  for (let index = 0; index < rangeCount; index++) {
    const { range, end } = decodeRange(view, at, head.stepBytes)
    if (range.offset + range.length > head.sizeBytes) throw invalid('has a range beyond the end of its disk')
    ranges.push(range)
    at = end
  }
  if (at !== view.length) throw invalid('is longer than its ranges')
  return { ...head, ranges }
}

/** Of a part as it was sealed: what the next part calls `previous`. */
export function hashOfPart(sealed: Uint8Array): string {
  return createHash('sha256').update(sealed).digest('hex')
}

function decodeHead(text: string): z.infer<typeof headShape> {
  try {
    return headShape.parse(JSON.parse(text))
  } catch (error) {
    throw invalid('has a head that this vmstore does not understand', error)
  }
}

function encodeRange(range: PublishedRange): Uint8Array[] {
  const head = Buffer.alloc(rangeBytes)
  head[0] = kinds.indexOf(range.kind)
  head.writeBigUInt64BE(BigInt(range.offset), 1)
  head.writeBigUInt64BE(BigInt(range.length), 9)
  return range.kind === 'chunk' ? [head, range.digest, range.steps] : [head]
}

function decodeRange(view: Buffer, at: number, stepBytes: number): { range: PublishedRange; end: number } {
  const end = at + rangeBytes
  if (end > view.length) throw invalid('is cut within a range')
  const kind = kinds[view[at]!]
  const offset = bounded(view.readBigUInt64BE(at + 1))
  const length = bounded(view.readBigUInt64BE(at + 9))
  if (!kind || length === 0) throw invalid('has a range that is none')
  if (kind !== 'chunk') return { range: { kind, offset, length }, end }
  if (length > largestChunkBytes) throw invalid('names a chunk that is larger than one may be')
  const stepsAt = end + digestBytes
  const chunkEnd = stepsAt + (stepBytes === 0 ? 0 : Math.ceil(length / stepBytes) * shortDigestBytes)
  if (chunkEnd > view.length) throw invalid('is cut within a chunk')
  const digest = view.subarray(end, stepsAt)
  return { range: { kind, offset, length, digest, steps: view.subarray(stepsAt, chunkEnd) }, end: chunkEnd }
}

function bounded(value: bigint): number {
  if (value > BigInt(largestOffset)) throw invalid('has a range beyond the end of any disk')
  return Number(value)
}

function invalid(what: string, cause?: unknown): RelayError {
  return new RelayError('manifest-invalid', `a part of the relay's manifest ${what}`, { cause })
}
