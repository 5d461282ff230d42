// What the disk must hold: for every sector the last write that was acknowledged, or the disk's first content.
// Always: a write counts from its acknowledgement on; until then nobody asks for its sectors (the guest sees to that).

import assert from 'node:assert/strict'
import { fillStamp, sectorBytes, sequenceOf } from './stamp.ts'

/** Reads the disk's first content. */
export type ReadOriginal = (offset: number, target: Uint8Array) => void

/**
 * lost: an acknowledged write is not there, but what was there before anybody wrote. stale: an older write is there.
 * damaged: what nobody wrote there, such as a block that changed though it was never written.
 */
export type FindingKind = 'lost' | 'stale' | 'damaged'

export interface Finding {
  readonly kind: FindingKind
  readonly offset: number
  /** The write that should be there; 0 is the first content. */
  readonly expected: number
  /** The write that is there, if one is. */
  readonly found: number | undefined
}

const zeroed = 0x8000_0000
const sequenceMax = zeroed - 1

export class Model {
  readonly sizeBytes: number
  readonly #readOriginal: ReadOriginal
  /** By sector: the last acknowledged write; the highest bit says that it wrote zeros. */
  readonly #writes: Uint32Array
  writtenSectors = 0

  constructor(sizeBytes: number, readOriginal: ReadOriginal) {
    this.sizeBytes = sizeBytes
    this.#readOriginal = readOriginal
    this.#writes = new Uint32Array(sizeBytes / sectorBytes)
  }

  /** A write was acknowledged. */
  acknowledge(offset: number, lengthBytes: number, sequence: number, content: 'stamp' | 'zeros'): void {
    assert(sequence > 0 && sequence <= sequenceMax)
    const mark = content === 'zeros' ? (sequence | zeroed) >>> 0 : sequence
    const end = (offset + lengthBytes) / sectorBytes
    for (let sector = offset / sectorBytes; sector < end; sector++) {
      if (this.#writes[sector] === 0) this.writtenSectors++
      this.#writes[sector] = mark
    }
  }

  /** What was read at `offset` against what must be there. Empty: it is right. */
  check(offset: number, bytes: Uint8Array): Finding[] {
    const expected = this.#expected(offset, bytes.length)
    if (Buffer.compare(expected, bytes) === 0) return []
    const findings: Finding[] = []
    for (let at = 0; at < bytes.length; at += sectorBytes) {
      const found = bytes.subarray(at, at + sectorBytes)
      if (Buffer.compare(expected.subarray(at, at + sectorBytes), found) !== 0)
        findings.push(this.#judge(offset + at, found))
    }
    return findings
  }

  #expected(offset: number, lengthBytes: number): Uint8Array {
    const first = offset / sectorBytes
    const marks = this.#writes.subarray(first, first + lengthBytes / sectorBytes)
    const expected = new Uint8Array(lengthBytes)
    if (marks.includes(0)) this.#readOriginal(offset, expected)
    for (let from = 0; from < marks.length; ) {
      const mark = marks[from]!
      let end = from + 1
      while (end < marks.length && marks[end] === mark) end++
      const part = expected.subarray(from * sectorBytes, end * sectorBytes)
      if (mark >= zeroed) part.fill(0)
      else if (mark > 0) fillStamp(part, first + from, mark)
      from = end
    }
    return expected
  }

  #judge(offset: number, content: Uint8Array): Finding {
    const sector = offset / sectorBytes
    const mark = this.#writes[sector]!
    const expected = mark & sequenceMax
    const found = sequenceOf(content, sector)
    if (mark === 0) return { kind: 'damaged', offset, expected, found }
    const original = new Uint8Array(sectorBytes)
    this.#readOriginal(offset, original)
    if (Buffer.compare(original, content) === 0 || content.every((byte) => byte === 0)) {
      return { kind: 'lost', offset, expected, found: undefined }
    }
    return { kind: found !== undefined && found < expected ? 'stale' : 'damaged', offset, expected, found }
  }
}

/** 'lost: at byte 4096 of the disk there is the first content, although write 7 had been acknowledged' */
export function findingText({ kind, offset, expected, found }: Finding): string {
  const is =
    found === undefined || found === 0
      ? kind === 'lost'
        ? 'what was there before'
        : 'what nobody wrote'
      : `write ${found}`
  const should = expected === 0 ? 'nobody had written there' : `write ${expected} had been acknowledged`
  return `${kind}: at byte ${offset} of the disk there is ${is}, although ${should}`
}
