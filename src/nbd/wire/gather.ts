// Collects a known number of bytes that arrive in pieces. Memory follows what has arrived, never what was announced: the
// buffer doubles up to the exact size. Growing needs the owner's consent, so that the bytes can be counted first.

import assert from 'node:assert/strict'

/** What is allocated before anything has arrived. */
const startBytes = 64 * 1024

export class Gather {
  readonly totalBytes: number
  #bytes: Buffer
  #gatheredBytes = 0

  constructor(totalBytes: number) {
    this.totalBytes = totalBytes
    // Never sent: every byte is overwritten before anyone sees it (`bytes` asserts that).
    this.#bytes = Buffer.allocUnsafe(Math.min(totalBytes, startBytes))
  }

  get capacityBytes(): number {
    return this.#bytes.length
  }

  get isComplete(): boolean {
    return this.#gatheredBytes === this.totalBytes
  }

  /** The capacity that the next `push` of `arrivedBytes` would need. */
  capacityFor(arrivedBytes: number): number {
    const needed = Math.min(this.totalBytes, this.#gatheredBytes + arrivedBytes)
    if (needed <= this.#bytes.length) return this.#bytes.length
    return Math.min(this.totalBytes, Math.max(needed, this.#bytes.length * 2))
  }

  /** Takes what it lacks from `chunk` at `at` on; returns how many bytes it took. */
  push(chunk: Buffer, at: number): number {
    const takenBytes = Math.min(chunk.length - at, this.totalBytes - this.#gatheredBytes)
    const capacityBytes = this.capacityFor(takenBytes)
    if (capacityBytes > this.#bytes.length) {
      const grown = Buffer.allocUnsafe(capacityBytes)
      this.#bytes.copy(grown, 0, 0, this.#gatheredBytes)
      this.#bytes = grown
    }
    chunk.copy(this.#bytes, this.#gatheredBytes, at, at + takenBytes)
    this.#gatheredBytes += takenBytes
    return takenBytes
  }

  get bytes(): Buffer {
    assert(this.isComplete)
    return this.#bytes
  }
}
