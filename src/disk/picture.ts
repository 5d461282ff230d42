// A disk that moves as a row of cells, for people: what most of each is. As text, a letter a cell, so that it is small enough to
// be told twice a second. Pure.
//
// What always holds: whole segments of a map cost nothing to count (block/block-map.ts), so that the cells of a large disk begin
// at segments: to draw 1 PiB in disorder takes no longer than 1 GiB.

import { type BlockMap, segmentBlocks } from '../block/block-map.ts'
import type { Span } from '../block/span.ts'

export const picturedCells = 240

/** here; copied ahead, and good unless it is written meanwhile; written by the guest since switchover; at the source; no bytes. */
export const cellLetters = { here: 'h', ahead: 'a', written: 'w', atSource: 's', zero: 'z' } as const

export interface PictureLayers {
  readonly blocks: number
  /** `all`: of a disk that is owned whole there is no map. */
  readonly here?: BlockMap | 'all'
  readonly written?: BlockMap
  /** How many blocks of it were copied ahead. */
  aheadIn?(cell: Span): number
  /** Nothing is kept of the cell. */
  isHole(cell: Span): boolean
}

/** At most `picturedCells` letters; none for a disk without blocks. */
export function pictureOf({ blocks, here, written, aheadIn, isHole }: PictureLayers): string {
  let picture = ''
  for (const cell of cellsOf(blocks)) {
    const { first, end } = cell
    const hereCount = here === 'all' ? end - first : (here?.countIn(first, end) ?? 0)
    const writtenCount = written?.countIn(first, end) ?? 0
    const aheadCount = aheadIn?.(cell) ?? 0
    const half = (end - first) / 2
    if (hereCount + aheadCount < half) picture += cellLetters.atSource
    else if (writtenCount >= half) picture += cellLetters.written
    else if (isHole(cell)) picture += cellLetters.zero
    else picture += aheadCount > 0 ? cellLetters.ahead : cellLetters.here
  }
  return picture
}

function* cellsOf(blocks: number): Generator<Span> {
  const least = Math.max(1, Math.ceil(blocks / picturedCells))
  const size = least < segmentBlocks ? least : Math.ceil(least / segmentBlocks) * segmentBlocks
  for (let first = 0; first < blocks; first += size) yield { first, end: Math.min(first + size, blocks) }
}
