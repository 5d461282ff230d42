// The units in which a disk is spoken of, each declared once: ranges of bytes, what they hold, and pieces of them on their
// way. Runs of blocks are in span.ts.

/** A range in bytes. */
export interface Run {
  readonly offset: number
  readonly length: number
}

/** A range of which all is data, or which is a hole and reads as zeros. */
export interface Extent extends Run {
  readonly data: boolean
}

/**
 * Bytes that came: `bytes` has `length` of them, or is undefined and they are all zero (`hole`: and were not allocated).
 * `isSpared`: they were at this site already, and did not travel.
 */
export interface Piece extends Run {
  readonly bytes: Uint8Array | undefined
  readonly hole?: boolean
  readonly isSpared?: boolean
}

/** `demand`: a guest waits. `background`: nobody does. */
export type Urgency = 'demand' | 'background'
