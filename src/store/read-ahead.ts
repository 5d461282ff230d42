// What to have read before anybody asks for it, of a file of which the kernel reads nothing ahead. Who reads behind bytes
// that are in the page cache probably came through them: as much again is read, so that one who goes on has it double at
// every step. Who reads here and there finds nothing before his place, and has nothing read ahead.

/** Tells of ranges whether the page cache has all of them. */
export interface CachedRanges {
  has(offset: number, lengthBytes: number): boolean
}

export interface Range {
  readonly offset: number
  readonly lengthBytes: number
}

/** With less before his place nobody is taken to read in order. */
const leastBytes = 32 * 1024
/** Enough for 1 GB/s at 2 ms. */
const mostBytes = 2 * 2 ** 20

export class ReadAhead {
  readonly #cached: CachedRanges
  readonly #sizeBytes: number
  /** Where what was last asked for ends. */
  #askedEnd = 0

  constructor(cached: CachedRanges, sizeBytes: number) {
    this.#cached = cached
    this.#sizeBytes = sizeBytes
  }

  /** What to read behind a range that the page cache lacks and that is being read. undefined: nothing, or too little. */
  after(offset: number, lengthBytes: number): Range | undefined {
    const aheadBytes = this.#cachedBytesBefore(offset)
    const from = offset + lengthBytes
    const end = Math.min(from + aheadBytes, this.#sizeBytes)
    const start = this.#askedEnd > from && this.#askedEnd <= end ? this.#askedEnd : from
    // The next pieces of a reader that has several in flight miss too: one of them asks.
    if (start >= end || (end - start < aheadBytes / 2 && end < this.#sizeBytes)) return undefined
    this.#askedEnd = end
    return { offset: start, lengthBytes: end - start }
  }

  #cachedBytesBefore(offset: number): number {
    let cachedBytes = 0
    for (let bytes = leastBytes; bytes <= Math.min(mostBytes, offset); bytes *= 2) {
      if (!this.#cached.has(offset - bytes, bytes - cachedBytes)) break
      cachedBytes = bytes
    }
    return cachedBytes
  }
}
