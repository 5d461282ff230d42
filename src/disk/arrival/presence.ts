// The record of what is here of an arriving disk, block by block and, where the guest wrote less, sector by sector: in the log,
// and then in memory.
//
// What always holds:
// - What memory says is with the kernel already. A log that cannot take it throws, and memory stays as it was.
// - A block is present, partial, or wholly missing. What the guest wrote of it since switchover counts as written for good.

import assert from 'node:assert/strict'
import { blockSizeBytes } from '../../block/block-map.ts'
import { type Span, spanOf } from '../../block/span.ts'
import { type ArrivalMaps, sectorBytes } from '../../store/arrival-maps.ts'
import type { MapLog } from '../../store/map-log.ts'
import { partialBlocks } from '../block-status.ts'

export class Presence {
  readonly #maps: ArrivalMaps
  readonly #log: MapLog
  readonly #sizeBytes: number
  #retired = false

  constructor(maps: ArrivalMaps, log: MapLog, sizeBytes: number) {
    this.#maps = maps
    this.#log = log
    this.#sizeBytes = sizeBytes
  }

  /** The disk is owned whole: what still completes has no bits to keep. */
  retire(): void {
    this.#retired = true
  }

  /** The missing blocks of a run have come, but for what the guest wrote of them. */
  landed(run: Span): void {
    this.#log.landed(run.first, run.end - run.first)
    for (const block of partialBlocks(this.#maps.partial, run)) {
      this.#maps.partial.delete(block)
      this.#maps.written.add(block, block + 1) // In part, by the guest: it is not what the source has.
    }
    this.#maps.present.add(run.first, run.end)
  }

  /** Blocks that are present turned out to be wrong. */
  forgotten(span: Span): void {
    this.#log.forgotten(span.first, span.end - span.first)
    this.#maps.present.delete(span.first, span.end)
  }

  /**
   * Present blocks count as written from before the write on: should the daemon die in it, some of its bytes may stand in
   * a block that is present, and which the comparison with the source must then leave alone.
   */
  touched(span: Span): void {
    if (this.#retired || this.#maps.written.hasAll(span.first, span.end)) return
    for (const run of this.#maps.present.runs(span.first, span.end, true)) {
      if (!this.#maps.written.hasAll(run.first, run.end)) this.#markWhole(run.first, run.end)
    }
  }

  /** The guest wrote these bytes: whole blocks become present, of others the sectors are noted. */
  written(offset: number, lengthBytes: number): void {
    if (this.#retired) return
    const span = spanOf(offset, lengthBytes)
    let { first, end } = span
    if (!this.#countsWhole(span.first, offset, lengthBytes)) {
      this.#markPartial(span.first, offset, lengthBytes)
      first++
    }
    if (span.end - 1 > span.first && !this.#countsWhole(span.end - 1, offset, lengthBytes)) {
      this.#markPartial(span.end - 1, offset, lengthBytes)
      end--
    }
    if (first < end) this.#markWhole(first, end)
  }

  /** Whether a write makes the block present, or finds it so. */
  #countsWhole(block: number, offset: number, lengthBytes: number): boolean {
    const start = block * blockSizeBytes
    const end = Math.min(start + blockSizeBytes, this.#sizeBytes)
    return (offset <= start && offset + lengthBytes >= end) || this.#maps.present.has(block)
  }

  #markPartial(block: number, offset: number, lengthBytes: number): void {
    const start = block * blockSizeBytes
    const size = Math.min(blockSizeBytes, this.#sizeBytes - start)
    const from = Math.max(offset - start, 0)
    const to = Math.min(offset + lengthBytes - start, size)
    const before = this.#maps.partial.get(block) ?? 0
    const mask = before | sectorMask(from, to)
    if (mask === sectorMask(0, size)) {
      this.#markWhole(block, block + 1)
    } else if (mask !== before) {
      this.#log.partial(block, mask)
      this.#maps.partial.set(block, mask)
    }
  }

  #markWhole(first: number, end: number): void {
    if (this.#maps.written.hasAll(first, end)) return
    this.#log.written(first, end - first)
    for (const block of partialBlocks(this.#maps.partial, { first, end })) this.#maps.partial.delete(block)
    this.#maps.present.add(first, end)
    this.#maps.written.add(first, end)
  }
}

/** The sectors of [from, to) within a block, both multiples of a sector, as bits. */
export function sectorMask(from: number, to: number): number {
  assert(from % sectorBytes === 0 && to % sectorBytes === 0 && from < to)
  return (2 ** (to / sectorBytes) - 1) & ~(2 ** (from / sectorBytes) - 1)
}
