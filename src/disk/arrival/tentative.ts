// What an incoming disk has of its source's bytes already: blocks that were copied ahead of switchover, of one epoch of the
// source's dirty map, with a log of their own. They are true only together with that map: whatever the source wrote since
// stands there. No guest reads them before switchover.
//
// What always holds:
// - Bytes before bits, as of an arriving disk; and what is `durable` was synced together with its bits (promise 4).
// - A block has one landing at a time, so that the newest bytes that were asked for are the last that land.
// - Once it is sealed nothing lands any more: what was read under the old generation never comes over the new one's bytes.

import assert from 'node:assert/strict'
import { BlockMap, blockSizeBytes } from '../../block/block-map.ts'
import type { Span } from '../../block/span.ts'
import { ArrivalMaps } from '../../store/arrival-maps.ts'
import type { MapLog } from '../../store/map-log.ts'
import { Holds } from './holds.ts'
import type { Claim, LandingPlace } from './landing.ts'

export class Tentative implements LandingPlace {
  readonly epoch: string
  readonly #log: MapLog
  readonly #sizeBytes: number
  readonly #holds = new Holds()
  /** With the kernel, and believed after its process has died. */
  readonly #here: BlockMap
  readonly #durable: BlockMap
  /** Landed since the last sync began. */
  #unsynced: BlockMap
  #isSealed = false
  /** Of all rounds up to it everything has landed. */
  #landedRound: number

  /** `here`: what the log says, and is durable. */
  constructor(epoch: string, log: MapLog, here: BlockMap, sizeBytes: number) {
    this.epoch = epoch
    this.#log = log
    this.#sizeBytes = sizeBytes
    this.#here = here
    this.#durable = new BlockMap(here.blocks)
    for (const run of here.runs(0, here.blocks, true)) this.#durable.add(run.first, run.end)
    this.#unsynced = new BlockMap(here.blocks)
    this.#landedRound = log.round
  }

  /** Blocks that were copied. The source may have written them since. */
  get blocks(): number {
    return this.#here.count
  }

  /** The round up to which all that was given out is durable here, and on record as that; 0: none. */
  get round(): number {
    return this.#log.round
  }

  /** All that the source gave out up to this round has landed: the next sync confirms it. */
  roundLanded(round: number): void {
    this.#landedRound = Math.max(this.#landedRound, round)
  }

  missingIn({ first, end }: Span): number {
    return end - first - this.#here.countIn(first, end)
  }

  /** Runs of blocks of the span that were not copied yet. */
  missing({ first, end }: Span): Generator<Span> {
    return this.#here.runs(first, end, false)
  }

  /** Claims the span whole: what comes is newer than what is here. undefined: nothing lands any more. */
  claimMissing(span: Span): Claim | undefined {
    if (this.#isSealed) return undefined
    assert(!this.#holds.claimOver(span), 'a block has one landing at a time')
    const hold = this.#holds.claim(span)
    const offset = span.first * blockSizeBytes
    const length = Math.min(span.end * blockSizeBytes, this.#sizeBytes) - offset
    const isNew = Math.min(this.missingIn(span) * blockSizeBytes, length)
    return {
      parts: [{ offset, length }],
      bytes: length,
      again: length - isNew,
      done: () => {
        // What was here already is not said again, or a disk that is kept in step for days would fill its folder: should its new
        // bytes be lost with this process, they come again, for their round is not confirmed.
        for (const run of [...this.#here.runs(span.first, span.end, false)])
          this.#log.landed(run.first, run.end - run.first)
        this.#here.add(span.first, span.end)
        this.#unsynced.add(span.first, span.end)
      },
      release: () => hold.finish(),
    }
  }

  /** The source cannot read these blocks any more: what was copied of them may be old, and is not told to be. */
  forget({ first, end }: Span): void {
    if (this.#here.hasNone(first, end)) return
    this.#log.forgotten(first, end - first)
    for (const map of [this.#here, this.#durable, this.#unsynced]) map.delete(first, end)
  }

  /** Runs the sync of the bytes: what had landed when it began is durable when this resolves, bytes and bits. */
  async saving(syncBytes: () => Promise<void>): Promise<void> {
    const [position, round] = [this.#log.position, this.#landedRound]
    const covered = this.#unsynced
    this.#unsynced = new BlockMap(covered.blocks)
    try {
      await syncBytes()
      await this.#log.commit(position, round)
    } catch (error) {
      for (const run of covered.runs(0, covered.blocks, true)) this.#unsynced.add(run.first, run.end)
      throw error
    }
    for (const run of covered.runs(0, covered.blocks, true)) {
      for (const part of this.#here.runs(run.first, run.end, true)) this.#durable.add(part.first, part.end)
    }
  }

  /** Nothing lands any more. Resolves when what was landing has landed. */
  async seal(): Promise<void> {
    this.#isSealed = true
    await this.#holds.unsettled({ first: 0, end: this.#here.blocks })
  }

  /** What an arriving disk begins with: what is durable here, but for what the source wrote since. Only once it is sealed. */
  presentWithout(dirty: BlockMap): ArrivalMaps {
    assert(this.#isSealed)
    const maps = new ArrivalMaps(this.#sizeBytes, this.#durable.copy())
    maps.present.subtract(dirty)
    return maps
  }

  close(): Promise<void> {
    return this.#log.close()
  }
}
