// A set of block numbers of one disk. Kept by segment, and only where a segment is neither full nor empty, so that cost
// follows what is mixed, not the size of the disk (a 1 TiB disk in full disorder: 32 MiB). Pure: no I/O, no clock.
// `count` is always the number of blocks in the set.

import assert from 'node:assert/strict'
import { endianness } from 'node:os'

import type { Span } from './span.ts'

export { blockSizeBytes } from './block-size.ts'

/** What is kept together. As bits they fill a page of 4 KiB. */
export const segmentBlocks = 32768
const segmentWords = segmentBlocks / 32
export const segmentBytes = segmentBlocks / 8

type Segment = 'empty' | 'full' | Uint32Array

/** Number of set bits of a word. */
function popcount(word: number): number {
  let bits = word - ((word >>> 1) & 0x55555555)
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333)
  return (((bits + (bits >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24
}

/** The bits [from, to) of a word, 0 <= from < to <= 32. */
function bitRange(from: number, to: number): number {
  const upto = to === 32 ? 0xffffffff : (1 << to) - 1
  return (upto & ~((1 << from) - 1)) >>> 0
}

export class BlockMap {
  readonly blocks: number
  #count = 0
  readonly #segments: Segment[]
  /** How many blocks of each segment are in the set. */
  readonly #counts: Uint32Array

  constructor(blocks: number) {
    this.blocks = blocks
    const segments = Math.ceil(blocks / segmentBlocks)
    this.#segments = new Array<Segment>(segments).fill('empty')
    this.#counts = new Uint32Array(segments)
  }

  get count(): number {
    return this.#count
  }

  has(block: number): boolean {
    const segment = this.#segments[Math.floor(block / segmentBlocks)]
    if (segment === 'full') return true
    if (segment === 'empty' || segment === undefined) return false
    const within = block % segmentBlocks
    return ((segment[within >>> 5]! >>> (within & 31)) & 1) === 1
  }

  /** Whether every block of [first, end) is in the set. */
  hasAll(first: number, end: number): boolean {
    if (this.#count === this.blocks) return true
    return this.#next(first, end, false) === end
  }

  hasNone(first: number, end: number): boolean {
    if (this.#count === 0) return true
    return this.#next(first, end, true) === end
  }

  /** How many blocks of [first, end) are in the set. Whole segments cost nothing. */
  countIn(first: number, end: number): number {
    let count = 0
    for (let at = first; at < end; ) {
      const index = Math.floor(at / segmentBlocks)
      const base = index * segmentBlocks
      const stop = Math.min(end, base + segmentBlocks)
      const segment = this.#segments[index]!
      const isWhole = at === base && stop === Math.min(this.blocks, base + segmentBlocks)
      if (isWhole) count += this.#counts[index]!
      else if (typeof segment === 'string') count += segment === 'full' ? stop - at : 0
      else count += countBits(segment, at - base, stop - base)
      at = stop
    }
    return count
  }

  add(first: number, end: number): void {
    this.#assign(first, end, true)
  }

  delete(first: number, end: number): void {
    this.#assign(first, end, false)
  }

  /** The runs of blocks within [first, end) that are in the set (`present`) or not in it, in order. */
  *runs(first: number, end: number, present: boolean): Generator<Span> {
    let at = first
    while (at < end) {
      const start = this.#next(at, end, present)
      if (start === end) return
      const stop = this.#next(start, end, !present)
      yield { first: start, end: stop }
      at = stop
    }
  }

  /** The first of these runs, or its first `limit` blocks, beyond which nothing is looked at. */
  firstRun(first: number, end: number, present: boolean, limit: number): Span | undefined {
    const start = this.#next(first, end, present)
    if (start === end) return undefined
    return { first: start, end: this.#next(start, Math.min(end, start + limit), !present) }
  }

  get segmentCount(): number {
    return this.#segments.length
  }

  /** Of a segment: all of it, none, or its bits, the first block's being the lowest of the first byte. */
  segmentAt(index: number): 'empty' | 'full' | Uint8Array {
    const words = this.#segments[index]!
    if (typeof words === 'string') return words
    return littleEndian(Buffer.from(words.slice().buffer))
  }

  /** Puts bits, as `segmentAt` gives them, in the place of what the segment had. @throws RangeError for a bit behind the end */
  putSegment(index: number, bytes: Uint8Array): void {
    assert(index < this.#segments.length && bytes.length === segmentBytes)
    const words = new Uint32Array(segmentWords)
    littleEndian(Buffer.from(words.buffer).fill(bytes))
    const size = Math.min(segmentBlocks, this.blocks - index * segmentBlocks)
    const count = countBits(words, 0, size)
    if (size < segmentBlocks && countBits(words, size, segmentBlocks) > 0)
      throw new RangeError('a bit lies behind the end')
    this.#count += count - this.#counts[index]!
    this.#counts[index] = count
    this.#segments[index] = count === size ? 'full' : count === 0 ? 'empty' : words
  }

  copy(): BlockMap {
    const copy = new BlockMap(this.blocks)
    for (const [index, words] of this.#segments.entries()) {
      copy.#segments[index] = typeof words === 'string' ? words : words.slice()
    }
    copy.#counts.set(this.#counts)
    copy.#count = this.#count
    return copy
  }

  /** The first block of [from, end) whose membership is `present`, or `end`. */
  #next(from: number, end: number, present: boolean): number {
    let at = from
    while (at < end) {
      const index = Math.floor(at / segmentBlocks)
      const base = index * segmentBlocks
      const segment = this.#segments[index]!
      const segmentEnd = Math.min(end, base + segmentBlocks)
      if (typeof segment === 'string') {
        if ((segment === 'full') === present) return at
      } else {
        const found = nextBit(segment, at - base, segmentEnd - base, present)
        if (base + found < segmentEnd) return base + found
      }
      at = segmentEnd
    }
    return end
  }

  #assign(first: number, end: number, value: boolean): void {
    assert(first >= 0 && first <= end && end <= this.blocks)
    let at = first
    while (at < end) {
      const index = Math.floor(at / segmentBlocks)
      const base = index * segmentBlocks
      const stop = Math.min(end, base + segmentBlocks)
      this.#assignSegment(index, at - base, stop - base, value)
      at = stop
    }
  }

  #assignSegment(index: number, from: number, to: number, value: boolean): void {
    const size = Math.min(segmentBlocks, this.blocks - index * segmentBlocks)
    const settled: Segment = value ? 'full' : 'empty'
    if (this.#segments[index] === settled) return
    const before = this.#counts[index]!
    let after = value ? size : 0
    if (from !== 0 || to !== size) {
      let words = this.#segments[index]!
      if (typeof words === 'string') words = new Uint32Array(segmentWords).fill(words === 'full' ? 0xffffffff : 0)
      this.#segments[index] = words
      after = before + assignBits(words, from, to, value)
    }
    this.#counts[index] = after
    this.#count += after - before
    if (after === size) this.#segments[index] = 'full'
    else if (after === 0) this.#segments[index] = 'empty'
  }
}

/** Words as they lie in memory, as bytes of which the first is the lowest; and back. */
function littleEndian(bytes: Buffer): Buffer {
  return endianness() === 'LE' ? bytes : bytes.swap32()
}

function nextBit(words: Uint32Array, from: number, to: number, value: boolean): number {
  let at = from
  while (at < to) {
    const word = value ? words[at >>> 5]! : ~words[at >>> 5]!
    const rest = word >>> (at & 31)
    if (rest !== 0) return Math.min(to, at + (31 - Math.clz32(rest & -rest)))
    at = (at | 31) + 1
  }
  return to
}

function countBits(words: Uint32Array, from: number, to: number): number {
  let count = 0
  for (let at = from; at < to; ) {
    const wordEnd = Math.min(to, (at | 31) + 1)
    count += popcount(words[at >>> 5]! & bitRange(at & 31, ((wordEnd - 1) & 31) + 1))
    at = wordEnd
  }
  return count
}

/** Sets or clears bits [from, to) and returns by how much the number of set bits changed. */
function assignBits(words: Uint32Array, from: number, to: number, value: boolean): number {
  let change = 0
  let at = from
  while (at < to) {
    const wordEnd = Math.min(to, (at | 31) + 1)
    const mask = bitRange(at & 31, ((wordEnd - 1) & 31) + 1)
    const word = words[at >>> 5]!
    change += value ? popcount(mask & ~word) : -popcount(mask & word)
    words[at >>> 5] = value ? word | mask : word & ~mask
    at = wordEnd
  }
  return change
}
