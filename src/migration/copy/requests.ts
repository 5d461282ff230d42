// Cuts what a round has given out into requests: so much data in each, as far as the extents tell what is data; holes in between
// take no room. Pure.

import { blockSizeBytes } from '../../block/block-map.ts'
import type { Span } from '../../block/span.ts'
import type { Extent, Run } from '../../block/units.ts'

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
      const to = isData ? Math.min(partEnd, at + requestBytes - dataBytes) : partEnd
      addTo(runs, { offset: at, length: to - at })
      if (isData) dataBytes += to - at
      at = to
      if (dataBytes < requestBytes && runs.length < runsAtOnce) continue
      yield { runs, dataBytes }
      runs = []
      dataBytes = 0
    }
  }
  if (runs.length > 0) yield { runs, dataBytes }
}

function addTo(runs: Run[], run: Run): void {
  const last = runs.at(-1)
  if (last && last.offset + last.length === run.offset)
    runs[runs.length - 1] = { offset: last.offset, length: last.length + run.length }
  else runs.push(run)
}
