// What guests can ask a disk of its blocks (docs/nbd.md, "Contexts"): which kinds of status there are when, and how a map is
// told as extents. Pure. What always holds: an answer is found by runs of blocks, never block by block, so that a range of
// terabytes costs what is mixed in it, up to the limit of extents.

import { type BlockMap, blockSizeBytes } from '../block/block-map.ts'
import { type Span, spanOf } from '../block/span.ts'
import { type StatusExtent, type StatusKind, type StatusWord, statusWords } from '../guest/export.ts'

const statusesAtRest = ['allocation'] as const
const statusesOfMoves = ['allocation', 'present', 'dirty'] as const

/** During and after a move there is more to tell than of a disk that never moved. */
export function statusesOf(disk: {
  readonly state: string
  readonly generation: number
  readonly migrationId: string | null
}): readonly StatusKind[] {
  const isAtRest = disk.state === 'owned' && disk.generation === firstGeneration && disk.migrationId === null
  return isAtRest ? statusesAtRest : statusesOfMoves
}

/** The generation that a disk has before any move. */
const firstGeneration = 1

/** What the statuses of an arriving disk are told from (store/map-log.ts). */
interface Maps {
  readonly present: BlockMap
  readonly written: BlockMap
  readonly partial: ReadonlyMap<number, unknown>
}

/** What one answer looks at, so that it takes a millisecond and not more, however large the disk is. */
const answeredBytesMax = 4 * 2 ** 40
/** Partial blocks lie in no order. So many are walked whole; with more of them an answer keeps to a window of blocks. */
const partialsWalked = 2048
const windowBlocks = 8192

/** How much of a range can be answered in one step. */
export function answerableBytes(maps: Maps, lengthBytes: number): number {
  const limitBytes = maps.partial.size > partialsWalked ? windowBlocks * blockSizeBytes : answeredBytesMax
  return Math.min(lengthBytes, limitBytes)
}

export function presentExtents(
  maps: Maps,
  offset: number,
  lengthBytes: number,
  limit: number,
): StatusExtent<'present'>[] {
  const answeredBytes = Math.min(lengthBytes, answeredBytesMax)
  const span = spanOf(offset, answeredBytes)
  const runs = maps.present.runs(span.first, span.end, true)
  return runExtents(runs, offset, answeredBytes, limit, statusWords.present)
}

/** A partial block is dirty too: the guest wrote some of its sectors. */
export function dirtyExtents(maps: Maps, offset: number, lengthBytes: number, limit: number): StatusExtent<'dirty'>[] {
  const answeredBytes = answerableBytes(maps, lengthBytes)
  const span = spanOf(offset, answeredBytes)
  const runs = withBlocks(maps.written.runs(span.first, span.end, true), partialBlocks(maps.partial, span))
  return runExtents(runs, offset, answeredBytes, limit, statusWords.dirty)
}

/** The partial blocks of a span, in order. Costs the smaller of the two. */
export function partialBlocks(partial: ReadonlyMap<number, unknown>, span: Span): number[] {
  if (partial.size === 0) return []
  const blocks: number[] = []
  if (partial.size < span.end - span.first) {
    for (const block of partial.keys()) if (block >= span.first && block < span.end) blocks.push(block)
    return blocks.sort((a, b) => a - b)
  }
  for (let block = span.first; block < span.end; block++) if (partial.has(block)) blocks.push(block)
  return blocks
}

/** Runs and single blocks, both in order, as one sequence; a block within a run may come after it. */
function* withBlocks(runs: Iterable<Span>, blocks: readonly number[]): Generator<Span> {
  let index = 0
  for (const run of runs) {
    for (; index < blocks.length && blocks[index]! < run.first; index++) yield runOf(blocks[index]!)
    yield run
  }
  for (; index < blocks.length; index++) yield runOf(blocks[index]!)
}

function runOf(block: number): Span {
  return { first: block, end: block + 1 }
}

/** A byte range as extents: what is outside the runs, and within. Runs come in order, may touch, and may repeat what has been. */
export function runExtents<Word extends StatusWord>(
  runs: Iterable<Span>,
  offset: number,
  lengthBytes: number,
  limit: number,
  [outside, within]: readonly [Word, Word],
): { readonly lengthBytes: number; readonly status: Word }[] {
  const end = offset + lengthBytes
  const extents: { lengthBytes: number; readonly status: Word }[] = []
  let at = offset
  /** False once there is room for no more. */
  const upTo = (byte: number, status: Word): boolean => {
    const partBytes = Math.min(byte, end) - at
    if (partBytes <= 0) return true
    const last = extents.at(-1)
    if (last?.status === status) last.lengthBytes += partBytes
    else if (extents.length === limit) return false
    else extents.push({ lengthBytes: partBytes, status })
    at += partBytes
    return true
  }
  for (const run of runs) {
    if (!upTo(run.first * blockSizeBytes, outside) || !upTo(run.end * blockSizeBytes, within)) return extents
  }
  upTo(end, outside)
  return extents
}
