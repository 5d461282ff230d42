// What is here of an arriving disk, and who may write where. Pure bookkeeping: no I/O but the map log's appends.
//
// What always holds (promise 5, guest writes win):
// - A block is claimed by at most one landing, checked and claimed in one synchronous step; the claim lasts until the
//   landing's write has completed. A guest write to a claimed block waits for the claim's end.
// - A landing gets no block with a guest write in flight, no present block, and of a partial block only the sectors that
//   the guest did not write.
// - A bit is set after its bytes are with the kernel, and is itself with the kernel (appended) before memory knows it.

import assert from 'node:assert/strict'
import type { StatusExtent } from '../nbd/export.ts'
import { blockSizeBytes } from '../store/block-map.ts'
import { type ArrivalMaps, type MapLog, sectorBytes } from '../store/map-log.ts'
import type { Run } from './block-source.ts'
import { answerableBytes, dirtyExtents, partialBlocks, presentExtents } from './contexts.ts'

/** Blocks [first, end). */
export interface Span {
  readonly first: number
  readonly end: number
}

export function spanOf(offset: number, lengthBytes: number): Span {
  return { first: Math.floor(offset / blockSizeBytes), end: Math.ceil((offset + lengthBytes) / blockSizeBytes) }
}

function overlaps(a: Span, b: Span): boolean {
  return a.first < b.end && b.first < a.end
}

/** A range of blocks in use by a landing or a guest write; others may wait for its end. */
class Hold implements Span {
  readonly first: number
  readonly end: number
  #ended: PromiseWithResolvers<void> | undefined

  constructor(span: Span) {
    this.first = span.first
    this.end = span.end
  }

  get ended(): Promise<void> {
    this.#ended ??= Promise.withResolvers()
    return this.#ended.promise
  }

  finish(): void {
    this.#ended?.resolve()
  }
}

/** The right of one landing to write `parts`. `done()` after the bytes are with the kernel; `release()` in any case. */
export interface Claim {
  /** Byte ranges to write: whole missing blocks, and the unwritten sectors of partial ones. */
  readonly parts: readonly Run[]
  readonly bytes: number
  done(): void
  release(): void
}

/** A guest write in flight. */
export interface WriteTicket {
  /** The bytes [offset, offset + lengthBytes) are with the kernel. Throws when the map log cannot take it: then it did not happen. */
  done(offset: number, lengthBytes: number): void
  release(): void
}

export class Arrival {
  readonly #maps: ArrivalMaps
  readonly #log: MapLog
  readonly #sizeBytes: number
  readonly #claims = new Set<Hold>()
  readonly #writes = new Set<Hold>()
  #retired = false

  constructor(maps: ArrivalMaps, log: MapLog, sizeBytes: number) {
    this.#maps = maps
    this.#log = log
    this.#sizeBytes = sizeBytes
  }

  get presentBlocks(): number {
    return this.#maps.present.count
  }

  get missingBlocks(): number {
    return this.#maps.present.blocks - this.#maps.present.count
  }

  get presentBytes(): number {
    // The last block may be short.
    const blocks = this.#maps.present.blocks
    const lastIsHere = blocks > 0 && this.#maps.present.has(blocks - 1)
    const short = blocks * blockSizeBytes - this.#sizeBytes
    return this.#maps.present.count * blockSizeBytes - (lastIsHere ? short : 0)
  }

  /** The disk is owned whole: what still completes has no bits to keep. */
  retire(): void {
    this.#retired = true
  }

  isPresent(span: Span): boolean {
    return this.#maps.present.hasAll(span.first, span.end)
  }

  /** Block-aligned runs that must be fetched before [offset, offset + lengthBytes) can be read. */
  lacking(offset: number, lengthBytes: number): Run[] {
    return [...this.#lacking(offset, lengthBytes)]
  }

  /** The first of them within what can be looked at in one step, and how many bytes that is. For ranges of any length. */
  firstLacking(offset: number, lengthBytes: number): { readonly run: Run | undefined; readonly knownBytes: number } {
    const knownBytes = answerableBytes(this.#maps, lengthBytes)
    for (const run of this.#lacking(offset, knownBytes)) return { run, knownBytes }
    return { run: undefined, knownBytes }
  }

  *#lacking(offset: number, lengthBytes: number): Generator<Run> {
    const span = spanOf(offset, lengthBytes)
    for (const missing of this.#maps.present.runs(span.first, span.end, false)) {
      for (const part of this.#withoutReadable(missing, offset, offset + lengthBytes)) yield this.#bytesOf(part)
    }
  }

  /** `vmstore:present` of a range, from its start on. */
  presentExtents(offset: number, lengthBytes: number, limit: number): StatusExtent[] {
    return presentExtents(this.#maps, offset, lengthBytes, limit)
  }

  /** `vmstore:dirty` of a range, from its start on. */
  dirtyExtents(offset: number, lengthBytes: number, limit: number): StatusExtent[] {
    return dirtyExtents(this.#maps, offset, lengthBytes, limit)
  }

  /** The bytes of [offset, offset + lengthBytes) that are neither here nor written by the guest, as of now. */
  absentParts(offset: number, lengthBytes: number): Run[] {
    const span = spanOf(offset, lengthBytes)
    const end = offset + lengthBytes
    const parts: Run[] = []
    for (const missing of this.#maps.present.runs(span.first, span.end, false)) {
      for (const part of this.#unwrittenParts(missing)) {
        const from = Math.max(part.offset, offset)
        const to = Math.min(part.offset + part.length, end)
        if (from < to) parts.push({ offset: from, length: to - from })
      }
    }
    return parts
  }

  /** Whether every block that the guest did not write is known, so that it can be compared with the source. */
  get isComparable(): boolean {
    return !this.#maps.lostPower
  }

  /** Runs of blocks of the span that are here, and that the guest did not write since switchover. */
  *comparable(span: Span): Generator<Span> {
    for (const run of this.#maps.written.runs(span.first, span.end, false)) {
      yield* this.#maps.present.runs(run.first, run.end, true)
    }
  }

  /** Whether no guest wrote to the span since switchover, nor is about to. */
  isUntouched(span: Span): boolean {
    if (!this.#maps.written.hasNone(span.first, span.end)) return false
    for (const write of this.#writes) if (overlaps(write, span)) return false
    return true
  }

  /**
   * Blocks that turned out to be wrong are missing again. To be called in the same synchronous step in which `isUntouched`
   * was true. False when some of them are missing already.
   */
  forget(span: Span): boolean {
    assert(this.isUntouched(span))
    if (!this.isPresent(span)) return false
    this.#log.forgotten(span.first, span.end - span.first)
    this.#maps.present.delete(span.first, span.end)
    return true
  }

  /** The first run of missing blocks from block `from` on, and at most `limitBlocks` of it. */
  firstMissing(from: number, limitBlocks: number): Span | undefined {
    for (const run of this.#maps.present.runs(from, this.#maps.present.blocks, false)) {
      return { first: run.first, end: Math.min(run.end, run.first + limitBlocks) }
    }
    return undefined
  }

  /** A promise for when landings and guest writes that now touch the span have ended; undefined: there are none. */
  unsettled(span: Span): Promise<unknown> | undefined {
    const holds = [...this.#claims, ...this.#writes].filter((hold) => overlaps(hold, span))
    return holds.length === 0 ? undefined : Promise.all(holds.map((hold) => hold.ended))
  }

  /** A promise for the end of a landing that a guest write to the span must wait for; undefined: it may go on now. */
  claimOver(span: Span): Promise<void> | undefined {
    for (const claim of this.#claims) if (overlaps(claim, span)) return claim.ended
    return undefined
  }

  /** To be called in the same synchronous step as `claimOver` answered undefined. */
  beginWrite(span: Span): WriteTicket {
    assert(!this.claimOver(span), 'a guest write waits for the landing on its blocks')
    this.#markTouched(span)
    const hold = new Hold(span)
    this.#writes.add(hold)
    return {
      done: (offset, lengthBytes) => this.#markWritten(offset, lengthBytes),
      release: () => {
        this.#writes.delete(hold)
        hold.finish()
      },
    }
  }

  /** Claims what a landing may write within the span now. undefined: nothing. */
  claimMissing(span: Span): Claim | undefined {
    const runs = this.#landable(span)
    const first = runs[0]
    const last = runs.at(-1)
    if (!first || !last) return undefined
    const hold = new Hold({ first: first.first, end: last.end })
    this.#claims.add(hold)
    const parts = runs.flatMap((run) => this.#unwrittenParts(run))
    return {
      parts,
      bytes: parts.reduce((sum, part) => sum + part.length, 0),
      done: () => {
        for (const run of runs) this.#markLanded(run)
      },
      release: () => {
        this.#claims.delete(hold)
        hold.finish()
      },
    }
  }

  /** Missing blocks of the span without guest writes in flight and other landings' claims. */
  #landable(span: Span): Span[] {
    let runs: Span[] = [...this.#maps.present.runs(span.first, span.end, false)]
    for (const hold of [...this.#writes, ...this.#claims]) {
      if (overlaps(hold, span)) runs = runs.flatMap((run) => without(run, hold))
    }
    return runs
  }

  /** Byte ranges of a run of missing blocks, without the sectors that the guest wrote. */
  #unwrittenParts(run: Span): Run[] {
    const parts: Run[] = []
    let from = run.first * blockSizeBytes
    const end = Math.min(run.end * blockSizeBytes, this.#sizeBytes)
    for (const block of this.#partialBlocks(run)) {
      const mask = this.#maps.partial.get(block)!
      for (let sector = 0; sector < blockSizeBytes / sectorBytes; sector++) {
        if (((mask >> sector) & 1) === 0) continue
        const at = block * blockSizeBytes + sector * sectorBytes
        if (at > from) parts.push({ offset: from, length: at - from })
        from = at + sectorBytes
      }
    }
    if (end > from) parts.push({ offset: from, length: end - from })
    return parts
  }

  #partialBlocks(run: Span): number[] {
    return partialBlocks(this.#maps.partial, run)
  }

  /** The missing run without its partial blocks whose part of [from, to) the guest wrote wholly. */
  #withoutReadable(run: Span, from: number, to: number): Span[] {
    let spans: Span[] = [run]
    for (const block of this.#partialBlocks(run)) {
      const start = block * blockSizeBytes
      const firstByte = Math.max(from, start) - start
      const endByte = Math.min(to, start + blockSizeBytes) - start
      const needed = sectorMask(sectorFloor(firstByte), sectorFloor(endByte + sectorBytes - 1))
      if ((this.#maps.partial.get(block)! & needed) !== needed) continue
      spans = spans.flatMap((span) => without(span, { first: block, end: block + 1 }))
    }
    return spans
  }

  #bytesOf(span: Span): Run {
    const offset = span.first * blockSizeBytes
    return { offset, length: Math.min(span.end * blockSizeBytes, this.#sizeBytes) - offset }
  }

  #markLanded(run: Span): void {
    this.#log.landed(run.first, run.end - run.first)
    for (const block of this.#partialBlocks(run)) {
      this.#maps.partial.delete(block)
      this.#maps.written.add(block, block + 1) // In part, by the guest: it is not what the source has.
    }
    this.#maps.present.add(run.first, run.end)
  }

  /**
   * Present blocks count as written from before the write on: should the daemon die in it, some of its bytes may stand in
   * a block that is present, and which the comparison with the source must then leave alone.
   */
  #markTouched(span: Span): void {
    if (this.#retired || this.#maps.written.hasAll(span.first, span.end)) return
    for (const run of this.#maps.present.runs(span.first, span.end, true)) {
      if (!this.#maps.written.hasAll(run.first, run.end)) this.#markWhole(run.first, run.end)
    }
  }

  #markWritten(offset: number, lengthBytes: number): void {
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
    for (const block of this.#partialBlocks({ first, end })) this.#maps.partial.delete(block)
    this.#maps.present.add(first, end)
    this.#maps.written.add(first, end)
  }
}

function sectorFloor(bytes: number): number {
  return bytes - (bytes % sectorBytes)
}

/** The sectors of [from, to) within a block, both multiples of a sector, as bits. */
function sectorMask(from: number, to: number): number {
  assert(from % sectorBytes === 0 && to % sectorBytes === 0 && from < to)
  return (2 ** (to / sectorBytes) - 1) & ~(2 ** (from / sectorBytes) - 1)
}

function without(span: Span, taken: Span): Span[] {
  if (!overlaps(span, taken)) return [span]
  const rest: Span[] = []
  if (span.first < taken.first) rest.push({ first: span.first, end: taken.first })
  if (taken.end < span.end) rest.push({ first: taken.end, end: span.end })
  return rest
}
