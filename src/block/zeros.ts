// Finds blocks of zeros in bytes that were read: they are neither sent nor written when a disk is copied, whatever the file
// system says of them. Blocks are those of the disk: the first and the last one of some bytes may be short. Pure.

import { blockSizeBytes } from './block-size.ts'

/** Blocks [from, end) of a buffer, in bytes: all of them zero, or none of them. */
export interface BlockExtent {
  readonly from: number
  readonly end: number
  readonly isZero: boolean
}

const zeros = Buffer.alloc(blockSizeBytes)

/** What `bytes`, the disk's from `offset` on, consist of: in order, and neighbours differ. */
export function blockExtents(bytes: Buffer, offset: number): BlockExtent[] {
  const extents: BlockExtent[] = []
  let from = 0
  let isZero = false
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + blockSizeBytes - ((offset + at) % blockSizeBytes))
    const isZeroHere = isAllZero(bytes, at, end)
    if (isZeroHere !== isZero) {
      if (at > from) extents.push({ from, end: at, isZero })
      from = at
      isZero = isZeroHere
    }
    at = end
  }
  if (bytes.length > from) extents.push({ from, end: bytes.length, isZero })
  return extents
}

/** Those that are not zero. */
export function nonZeroExtents(bytes: Buffer, offset: number): BlockExtent[] {
  return blockExtents(bytes, offset).filter(({ isZero }) => !isZero)
}

/** Most data differs from zero in its first byte or its last: that is seen without a call. */
function isAllZero(bytes: Buffer, from: number, end: number): boolean {
  return bytes[from] === 0 && bytes[end - 1] === 0 && bytes.compare(zeros, 0, end - from, from, end) === 0
}
