// What is here of an arriving disk, and what a landing or a guest write may do about it. Pure bookkeeping: no I/O but the
// map log's appends. Who is at which blocks is in holds.ts, the record of what is here in presence.ts.
//
// What always holds (promise 5, guest writes win): a landing gets no present block, none that another landing claims, none
// with a guest write in flight, and of a partial block only the sectors that the guest did not write. What it may write is
// looked up and claimed in one synchronous step; the claim lasts until its write has completed.

import assert from 'node:assert/strict'
import { type BlockMap, blockSizeBytes } from '../../block/block-map.ts'
import { type Span, spanOf, without } from '../../block/span.ts'
import type { Run } from '../../block/units.ts'
import type { StatusExtent } from '../../guest/export.ts'
import { type ArrivalMaps, sectorBytes } from '../../store/arrival-maps.ts'
import type { MapLog } from '../../store/map-log.ts'
import { answerableBytes, dirtyExtents, partialBlocks, presentExtents } from '../block-status.ts'
import { Holds } from './holds.ts'
import type { Claim, LandingPlace } from './landing.ts'
import { Presence, sectorMask } from './presence.ts'

/** A guest write in flight. */
export interface WriteTicket {
  /** The bytes [offset, offset + lengthBytes) are with the kernel. Throws when the map log cannot take it: then it did not happen. */
  done(offset: number, lengthBytes: number): void
  release(): void
}

export class Arrival implements LandingPlace {
  readonly #maps: ArrivalMaps
  readonly #sizeBytes: number
  readonly #holds = new Holds()
  readonly #presence: Presence

  constructor(maps: ArrivalMaps, log: MapLog, sizeBytes: number) {
    this.#maps = maps
    this.#sizeBytes = sizeBytes
    this.#presence = new Presence(maps, log, sizeBytes)
  }

  get presentBlocks(): number {
    return this.#maps.present.count
  }

  get missingBlocks(): number {
    return this.#maps.present.blocks - this.#maps.present.count
  }

  missingBlocksIn({ first, end }: Span): number {
    return end - first - this.#maps.present.countIn(first, end)
  }

  get presentBytes(): number {
    // The last block may be short.
    const blocks = this.#maps.present.blocks
    const lastIsHere = blocks > 0 && this.#maps.present.has(blocks - 1)
    const short = blocks * blockSizeBytes - this.#sizeBytes
    return this.#maps.present.count * blockSizeBytes - (lastIsHere ? short : 0)
  }

  /** For pictures of it: which blocks are here, and which of them the guest wrote. */
  get pictured(): Pick<ArrivalMaps, 'written'> & { readonly here: BlockMap } {
    const { present, written } = this.#maps
    return { here: present, written }
  }

  /** The disk is owned whole: what still completes has no bits to keep. */
  retire(): void {
    this.#presence.retire()
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

  /** What is `present` of a range, from its start on. */
  presentExtents(offset: number, lengthBytes: number, limit: number): StatusExtent[] {
    return presentExtents(this.#maps, offset, lengthBytes, limit)
  }

  /** What is `dirty` of a range, from its start on. */
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
    return this.#maps.written.hasNone(span.first, span.end) && !this.#holds.isBeingWritten(span)
  }

  /**
   * Blocks that turned out to be wrong are missing again. To be called in the same synchronous step in which `isUntouched`
   * was true. False when some of them are missing already.
   */
  forget(span: Span): boolean {
    assert(this.isUntouched(span))
    if (!this.isPresent(span)) return false
    this.#presence.forgotten(span)
    return true
  }

  /** The first run of missing blocks from block `from` on, and at most `limitBlocks` of it. */
  firstMissing(from: number, limitBlocks: number): Span | undefined {
    return this.#maps.present.firstRun(from, this.#maps.present.blocks, false, limitBlocks)
  }

  /** A promise for when landings and guest writes that now touch the span have ended; undefined: there are none. */
  unsettled(span: Span): Promise<unknown> | undefined {
    return this.#holds.unsettled(span)
  }

  /** A promise for the end of a landing that a guest write to the span must wait for; undefined: it may go on now. */
  claimOver(span: Span): Promise<void> | undefined {
    return this.#holds.claimOver(span)
  }

  /** To be called in the same synchronous step as `claimOver` answered undefined. */
  beginWrite(span: Span): WriteTicket {
    this.#presence.touched(span) // Should the log not take it, nothing has begun.
    const hold = this.#holds.write(span)
    return {
      done: (offset, lengthBytes) => this.#presence.written(offset, lengthBytes),
      release: () => hold.finish(),
    }
  }

  /** Claims what a landing may write within the span now. undefined: nothing. */
  claimMissing(span: Span): Claim | undefined {
    const runs = this.#holds.free(span, this.#maps.present.runs(span.first, span.end, false))
    const first = runs[0]
    const last = runs.at(-1)
    if (!first || !last) return undefined
    const hold = this.#holds.claim({ first: first.first, end: last.end })
    const parts = runs.flatMap((run) => this.#unwrittenParts(run))
    return {
      parts,
      bytes: parts.reduce((sum, part) => sum + part.length, 0),
      done: () => {
        for (const run of runs) this.#presence.landed(run)
      },
      release: () => hold.finish(),
    }
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
}

function sectorFloor(bytes: number): number {
  return bytes - (bytes % sectorBytes)
}
