// A set of block numbers of one disk. Kept by segment, and only where a segment is neither full nor empty; and segments by
// group, in the same way. So cost follows what is mixed, not the size of the disk: a 1 TiB disk in full disorder takes 32 MiB, a
// 1 PiB disk of which nothing is here 64 KiB. Pure: no I/O, no clock.
// `count` is always the number of blocks in the set.

import assert from 'node:assert/strict'
import { endianness } from 'node:os'

import type { Span } from './span.ts'

export { blockSizeBytes } from './block-size.ts'

/** What is kept together. As bits they fill a page of 4 KiB. */
export const segmentBlocks = 32768
const segmentWords = segmentBlocks / 32
export const segmentBytes = segmentBlocks / 8

/** 128 GiB of a disk. */
const groupSegments = 1024
const groupBlocks = groupSegments * segmentBlocks

type Segment = 'empty' | 'full' | Uint32Array

interface MixedGroup {
  readonly segments: Segment[]
  /** How many blocks of each segment are in the set. */
  readonly counts: Uint32Array
  count: number
}

type Group = 'empty' | 'full' | MixedGroup

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
  readonly #groups: Group[]

  constructor(blocks: number) {
    this.blocks = blocks
    this.#groups = new Array<Group>(Math.ceil(blocks / groupBlocks)).fill('empty')
  }

  get count(): number {
    return this.#count
  }

  has(block: number): boolean {
    const segment = this.#segment(Math.floor(block / segmentBlocks))
    if (typeof segment === 'string') return segment === 'full'
    const within = block % segmentBlocks
    return ((segment[within >>> 5]! >>> (within & 31)) & 1) === 1
  }

  /** Of one that is not there: `empty`. */
  #segment(index: number): Segment {
    const group = this.#groups[Math.floor(index / groupSegments)]
    if (typeof group !== 'object') return group ?? 'empty'
    return group.segments[index % groupSegments] ?? 'empty'
  }

  /** Whether every block of [first, end) is in the set. */
  hasAll(first: number, end: number): boolean {
    if (this.#count === this.blocks) return true
    // A guest's request lies in one segment, nearly always: it is looked at without a walk.
    const index = Math.floor(first / segmentBlocks)
    const base = index * segmentBlocks
    if (end <= base + segmentBlocks && first < end) {
      const segment = this.#segment(index)
      if (typeof segment === 'string') return segment === 'full'
      return nextBit(segment, first - base, end - base, false) === end - base
    }
    return this.#next(first, end, false) === end
  }

  hasNone(first: number, end: number): boolean {
    if (this.#count === 0) return true
    return this.#next(first, end, true) === end
  }

  /** How many blocks of [first, end) are in the set. Whole segments, and whole groups, cost nothing. */
  countIn(first: number, end: number): number {
    let count = 0
    for (let at = first; at < end; ) {
      const index = Math.floor(at / groupBlocks)
      const base = index * groupBlocks
      const groupEnd = Math.min(this.blocks, base + groupBlocks)
      const stop = Math.min(end, groupEnd)
      const group = this.#groups[index]!
      if (typeof group === 'string') count += group === 'full' ? stop - at : 0
      else if (at === base && stop === groupEnd) count += group.count
      else count += countInGroup(group, at - base, stop - base, groupEnd - base)
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

  /** Takes out what is in another set of the same disk: what both have mixed costs a look at their bits, not at each run. */
  subtract(other: BlockMap): void {
    assert(other.blocks === this.blocks)
    for (let index = 0; index < this.segmentCount; index++) {
      const theirs = other.segmentAt(index)
      if (theirs === 'empty') continue
      const first = index * segmentBlocks
      const end = Math.min(this.blocks, first + segmentBlocks)
      if (theirs === 'full') this.delete(first, end)
      else if (this.#segment(index) === 'full')
        for (const run of other.runs(first, end, true)) this.delete(run.first, run.end)
      else if (this.#segment(index) !== 'empty')
        this.putSegment(index, without(this.segmentAt(index) as Uint8Array, theirs))
    }
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
    return Math.ceil(this.blocks / segmentBlocks)
  }

  /** Of a segment: all of it, none, or its bits, the first block's being the lowest of the first byte. */
  segmentAt(index: number): 'empty' | 'full' | Uint8Array {
    const group = this.#groups[Math.floor(index / groupSegments)]!
    if (typeof group === 'string') return group
    const words = group.segments[index % groupSegments]!
    if (typeof words === 'string') return words
    return littleEndian(Buffer.from(words.slice().buffer))
  }

  /** The bytes from `from` on of what `segmentAt` gives, as many as `target` has: a look at a few costs no copy of all. */
  segmentPart(index: number, from: number, target: Uint8Array): void {
    const segment = this.#segment(index)
    if (typeof segment === 'string') {
      target.fill(segment === 'full' ? 0xff : 0)
      return
    }
    for (let at = 0; at < target.length; at++) {
      const byte = from + at
      target[at] = segment[byte >>> 2]! >>> ((byte & 3) * 8)
    }
  }

  /** Puts bits, as `segmentAt` gives them, in the place of what the segment had. @throws RangeError for a bit behind the end */
  putSegment(index: number, bytes: Uint8Array): void {
    assert(index < this.segmentCount && bytes.length === segmentBytes)
    const words = new Uint32Array(segmentWords)
    littleEndian(Buffer.from(words.buffer).fill(bytes))
    const first = index * segmentBlocks
    const size = Math.min(segmentBlocks, this.blocks - first)
    const count = countBits(words, 0, size)
    if (size < segmentBlocks && countBits(words, size, segmentBlocks) > 0)
      throw new RangeError('a bit lies behind the end')
    this.#assign(first, first + size, count === size)
    if (count === 0 || count === size) return
    this.#assign(first, first + 1, true) // The segment is mixed now, and has one block.
    const { segments, counts, ...group } = this.#groups[Math.floor(index / groupSegments)] as MixedGroup
    segments[index % groupSegments] = words
    counts[index % groupSegments] = count
    this.#groups[Math.floor(index / groupSegments)] = { segments, counts, count: group.count + count - 1 }
    this.#count += count - 1
  }

  copy(): BlockMap {
    const copy = new BlockMap(this.blocks)
    for (const [index, group] of this.#groups.entries()) {
      copy.#groups[index] = typeof group === 'string' ? group : copyOf(group)
    }
    copy.#count = this.#count
    return copy
  }

  /** The first block of [from, end) whose membership is `present`, or `end`. */
  #next(from: number, end: number, present: boolean): number {
    let at = from
    while (at < end) {
      const index = Math.floor(at / groupBlocks)
      const base = index * groupBlocks
      const group = this.#groups[index]!
      const groupEnd = Math.min(end, base + groupBlocks)
      if (typeof group === 'string') {
        if ((group === 'full') === present) return at
      } else {
        const found = base + nextInGroup(group, at - base, groupEnd - base, present)
        if (found < groupEnd) return found
      }
      at = groupEnd
    }
    return end
  }

  #assign(first: number, end: number, value: boolean): void {
    assert(first >= 0 && first <= end && end <= this.blocks)
    let at = first
    while (at < end) {
      const index = Math.floor(at / groupBlocks)
      const base = index * groupBlocks
      const stop = Math.min(end, base + groupBlocks)
      this.#assignGroup(index, at - base, stop - base, value)
      at = stop
    }
  }

  #assignGroup(index: number, from: number, to: number, value: boolean): void {
    const size = Math.min(groupBlocks, this.blocks - index * groupBlocks)
    const settled: Group = value ? 'full' : 'empty'
    let group = this.#groups[index]!
    if (group === settled) return
    const before = countOf(group, size)
    let after = value ? size : 0
    if (from !== 0 || to !== size) {
      if (typeof group === 'string') group = mixedGroup(group, size)
      this.#groups[index] = group
      assignSegments(group, from, to, size, value)
      after = group.count
    }
    this.#count += after - before
    if (after === size) this.#groups[index] = 'full'
    else if (after === 0) this.#groups[index] = 'empty'
  }
}

function countOf(group: Group, size: number): number {
  if (typeof group === 'string') return group === 'full' ? size : 0
  return group.count
}

/** A group of `size` blocks that is full, or empty, to be changed in part. */
function mixedGroup(settled: 'empty' | 'full', size: number): MixedGroup {
  const length = Math.ceil(size / segmentBlocks)
  const counts = new Uint32Array(length)
  if (settled === 'full') {
    counts.fill(segmentBlocks)
    counts[length - 1] = size - (length - 1) * segmentBlocks
  }
  return { segments: new Array<Segment>(length).fill(settled), counts, count: settled === 'full' ? size : 0 }
}

function copyOf({ segments, counts, count }: MixedGroup): MixedGroup {
  const copied = segments.map((segment) => (typeof segment === 'string' ? segment : segment.slice()))
  return { segments: copied, counts: counts.slice(), count }
}

/** Of [from, to) within a group of `size` blocks. */
function countInGroup({ segments, counts }: MixedGroup, from: number, to: number, size: number): number {
  let count = 0
  for (let at = from; at < to; ) {
    const index = Math.floor(at / segmentBlocks)
    const base = index * segmentBlocks
    const stop = Math.min(to, base + segmentBlocks)
    const segment = segments[index]!
    const isWhole = at === base && stop === Math.min(size, base + segmentBlocks)
    if (isWhole) count += counts[index]!
    else if (typeof segment === 'string') count += segment === 'full' ? stop - at : 0
    else count += countBits(segment, at - base, stop - base)
    at = stop
  }
  return count
}

/** The first block of [from, to) within a group whose membership is `present`, or `to`. */
function nextInGroup({ segments }: MixedGroup, from: number, to: number, present: boolean): number {
  let at = from
  while (at < to) {
    const index = Math.floor(at / segmentBlocks)
    const base = index * segmentBlocks
    const segment = segments[index]!
    const segmentEnd = Math.min(to, base + segmentBlocks)
    if (typeof segment === 'string') {
      if ((segment === 'full') === present) return at
    } else {
      const found = base + nextBit(segment, at - base, segmentEnd - base, present)
      if (found < segmentEnd) return found
    }
    at = segmentEnd
  }
  return to
}

/** Of [from, to) within a group of `size` blocks. */
function assignSegments(group: MixedGroup, from: number, to: number, size: number, value: boolean): void {
  for (let at = from; at < to; ) {
    const index = Math.floor(at / segmentBlocks)
    const base = index * segmentBlocks
    const stop = Math.min(to, base + segmentBlocks)
    assignSegment(group, index, at - base, stop - base, Math.min(segmentBlocks, size - base), value)
    at = stop
  }
}

function assignSegment(group: MixedGroup, index: number, from: number, to: number, size: number, value: boolean): void {
  const { segments, counts } = group
  const settled: Segment = value ? 'full' : 'empty'
  if (segments[index] === settled) return
  const before = counts[index]!
  let after = value ? size : 0
  if (from !== 0 || to !== size) {
    let words = segments[index]!
    if (typeof words === 'string') words = mixedSegment(words, size)
    segments[index] = words
    after = before + assignBits(words, from, to, value)
  }
  counts[index] = after
  group.count += after - before
  if (after === size) segments[index] = 'full'
  else if (after === 0) segments[index] = 'empty'
}

/** Those bits that the others have not; in the memory of the former. */
function without(bits: Uint8Array, others: Uint8Array): Uint8Array {
  for (let at = 0; at < bits.length; at++) bits[at]! &= ~others[at]!
  return bits
}

/** The bits of a segment of `size` blocks: behind the end of the disk there is none. */
function mixedSegment(settled: 'empty' | 'full', size: number): Uint32Array {
  const words = new Uint32Array(segmentWords)
  if (settled === 'full') assignBits(words, 0, size, true)
  return words
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
