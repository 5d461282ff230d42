// The metadata contexts of a disk (docs/nbd.md, "Contexts"): which there are, what their flags mean, and how a map is told
// as extents. Pure. What always holds: a context's place in the list, and so its id, never changes; an answer is found by
// runs of blocks, never block by block, so that a range of terabytes costs what is mixed in it, up to the limit of extents.

import { type BlockMap, blockSizeBytes } from '../block/block-map.ts'
import { type Span, spanOf } from '../block/span.ts'
import type { StatusExtent } from '../guest/export.ts'

/** `vmstore:present`: the block's bytes are at this site. */
export const PresentFlag = { present: 1 << 0 } as const

/**
 * `vmstore:dirty`: the guest may have changed the block since this site took the disk over, so that it may differ from what
 * the source gave. Where no map tells, every block counts.
 */
export const DirtyFlag = { dirty: 1 << 0 } as const

const contextsAtRest = ['base:allocation'] as const
const contextsOfMoves = [...contextsAtRest, 'vmstore:present', 'vmstore:dirty'] as const

export type DiskContext = (typeof contextsOfMoves)[number]

/** During and after a move there is more to tell than of a disk that never moved. */
export function contextsOf(disk: {
  readonly state: string
  readonly generation: number
  readonly migrationId: string | null
}): readonly DiskContext[] {
  const isAtRest = disk.state === 'owned' && disk.generation === firstGeneration && disk.migrationId === null
  return isAtRest ? contextsAtRest : contextsOfMoves
}

/** The generation that a disk has before any move. */
const firstGeneration = 1

/** What the contexts of an arriving disk are told from (store/map-log.ts). */
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

export function presentExtents(maps: Maps, offset: number, lengthBytes: number, limit: number): StatusExtent[] {
  const answeredBytes = Math.min(lengthBytes, answeredBytesMax)
  const span = spanOf(offset, answeredBytes)
  const runs = maps.present.runs(span.first, span.end, true)
  return runExtents(runs, offset, answeredBytes, limit, PresentFlag.present)
}

/** A partial block is dirty too: the guest wrote some of its sectors. */
export function dirtyExtents(maps: Maps, offset: number, lengthBytes: number, limit: number): StatusExtent[] {
  const answeredBytes = answerableBytes(maps, lengthBytes)
  const span = spanOf(offset, answeredBytes)
  const runs = withBlocks(maps.written.runs(span.first, span.end, true), partialBlocks(maps.partial, span))
  return runExtents(runs, offset, answeredBytes, limit, DirtyFlag.dirty)
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

/** A byte range as extents: `flag` within the runs, 0 outside them. Runs come in order, may touch, and may repeat what has been. */
export function runExtents(
  runs: Iterable<Span>,
  offset: number,
  lengthBytes: number,
  limit: number,
  flag: number,
): StatusExtent[] {
  const end = offset + lengthBytes
  const extents: { lengthBytes: number; readonly flags: number }[] = []
  let at = offset
  /** False once there is room for no more. */
  const upTo = (byte: number, flags: number): boolean => {
    const partBytes = Math.min(byte, end) - at
    if (partBytes <= 0) return true
    const last = extents.at(-1)
    if (last?.flags === flags) last.lengthBytes += partBytes
    else if (extents.length === limit) return false
    else extents.push({ lengthBytes: partBytes, flags })
    at += partBytes
    return true
  }
  for (const run of runs) {
    if (!upTo(run.first * blockSizeBytes, 0) || !upTo(run.end * blockSizeBytes, flag)) return extents
  }
  upTo(end, 0)
  return extents
}
