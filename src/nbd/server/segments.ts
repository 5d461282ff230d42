// What the range of a READ consists of, as the export says: data, and holes that need not be read nor sent. Pure. A range
// counts as a hole only if the export says that it reads as zeros now; what it says nothing of is read.

import type { StatusExtent } from '../../guest/export.ts'

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
    if (partBytes > 0) add(partBytes, extent.status === 'hole' || extent.status === 'zero')
  }
  if (at < end) add(end - at, false)
  return segments
}
