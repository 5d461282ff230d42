// Cuts what a round has given out into requests: so much data in each, or up to a cell more, as far as the extents tell what is
// data; holes in between take no room. Pure.
//
// What always holds: no cell of a seed is cut, where its blocks follow each other: of a part of one each block is to be asked for.

import { blockSizeBytes } from '../../block/block-map.ts'
import type { Span } from '../../block/span.ts'
import type { Extent, Run } from '../../block/units.ts'
import { cellBytes } from './seed.ts'

const requestBytes = 256 * 1024
const runsAtOnce = 512

export interface BlockRequest {
  /** Sorted and disjoint. */
  readonly runs: readonly Run[]
  /** How much of them is data, as far as is known. */
  readonly dataBytes: number
}

/** `extents`: in order; what they do not speak of counts as data. */
export function* requestsOf(
  spans: readonly Span[],
  extents: readonly Extent[],
  sizeBytes: number,
): Generator<BlockRequest> {
  let runs: Run[] = []
  let dataBytes = 0
  let index = 0
  for (const { first, end } of spans) {
    const spanEnd = Math.min(end * blockSizeBytes, sizeBytes)
    for (let at = first * blockSizeBytes; at < spanEnd; ) {
      while (index < extents.length && extents[index]!.offset + extents[index]!.length <= at) index++
      const extent = extents[index]
      const isKnown = extent !== undefined && extent.offset <= at
      const partEnd = Math.min(spanEnd, isKnown ? extent.offset + extent.length : (extent?.offset ?? spanEnd))
      const isData = !isKnown || extent.data
      const isFull = dataBytes >= requestBytes
      const to = isData || isFull ? Math.min(partEnd, cellEnd(at + Math.max(1, requestBytes - dataBytes))) : partEnd
      addTo(runs, { offset: at, length: to - at })
      if (isData) dataBytes += to - at
      at = to
      const isCut = to % cellBytes !== 0 && to < spanEnd
      if ((dataBytes < requestBytes || isCut) && runs.length < runsAtOnce) continue
      yield { runs, dataBytes }
      runs = []
      dataBytes = 0
    }
  }
  if (runs.length > 0) yield { runs, dataBytes }
}

/** Where the cell ends of which the byte before `at` is. */
function cellEnd(at: number): number {
  return Math.ceil(at / cellBytes) * cellBytes
}

function addTo(runs: Run[], run: Run): void {
  const last = runs.at(-1)
  if (last && last.offset + last.length === run.offset)
    runs[runs.length - 1] = { offset: last.offset, length: last.length + run.length }
  else runs.push(run)
}
