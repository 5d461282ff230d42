// The part of the disk that the client writes into: some runs of bytes, seen as one. Pure.

import assert from 'node:assert/strict'

/** Bytes [offset, offset + length). */
export interface Run {
  readonly offset: number
  readonly length: number
}

export class Area {
  readonly runs: readonly Run[]
  readonly bytes: number

  constructor(runs: readonly Run[]) {
    assert(runs.length > 0)
    this.runs = runs
    this.bytes = runs.reduce((sum, run) => sum + run.length, 0)
  }

  /** What lies `at` bytes into the area, at most `lengthBytes` and within one run. */
  place(at: number, lengthBytes: number): Run {
    let left = at
    for (const run of this.runs) {
      if (left < run.length) return { offset: run.offset + left, length: Math.min(lengthBytes, run.length - left) }
      left -= run.length
    }
    throw new RangeError(`${at} is beyond the area's ${this.bytes} bytes`)
  }
}
