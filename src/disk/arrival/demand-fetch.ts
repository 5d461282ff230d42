// Demand fetch: makes a range of an arriving disk readable while a guest waits. All missing runs of a request are asked for
// at once, and a block that is being fetched on demand is not asked for again (single flight). A block that the background
// copy has asked for is asked for all the same: a guest never waits behind the background (promise 9).

import { blockSizeBytes } from '../../block/block-map.ts'
import { giveBack } from '../../block/own-memory.ts'
import { type Span, spanOf } from '../../block/span.ts'
import type { Piece, Run } from '../../block/units.ts'
import type { MaybePromise } from '../../guest/export.ts'
import { type BlockSource, copyPiece } from '../block-source.ts'
import type { Arrival } from './arrival.ts'

interface Flight extends Span {
  readonly done: Promise<void>
}

export class DemandFetch {
  readonly #arrival: Arrival
  readonly #source: BlockSource
  readonly #land: (piece: Piece) => Promise<void>
  /** Aborts when the disk closes. One guest that goes away does not end a fetch that others may wait for. */
  readonly #closed: AbortSignal
  readonly #flights = new Set<Flight>()

  constructor(arrival: Arrival, source: BlockSource, land: (piece: Piece) => Promise<void>, closed: AbortSignal) {
    this.#arrival = arrival
    this.#source = source
    this.#land = land
    this.#closed = closed
  }

  /** Resolves when every byte of the range can be read from the file. */
  async ensure(offset: number, lengthBytes: number): Promise<void> {
    for (;;) {
      const lacking = this.#arrival.lacking(offset, lengthBytes)
      if (lacking.length === 0) return
      try {
        await this.#fetch(lacking)
      } catch (error) {
        // The background copy may have brought it meanwhile, and the migration may even be over.
        if (this.#arrival.lacking(offset, lengthBytes).length > 0) throw error
      }
      // A landing skips blocks that a guest is writing or another landing holds: they are readable, or known, after.
      if (this.#arrival.lacking(offset, lengthBytes).length > 0)
        await this.#arrival.unsettled(spanOf(offset, lengthBytes))
    }
  }

  /**
   * Reads a range without keeping what comes: for a disk that has no room. `readHere` fills `target` from the file.
   * What is absent is looked at after everything has come, and only there the file's bytes are replaced.
   */
  async readThrough(offset: number, target: Uint8Array, readHere: () => MaybePromise<void>): Promise<void> {
    const pieces: Piece[] = []
    const runs = this.#arrival.lacking(offset, target.length)
    for await (const piece of this.#source.fetch(runs, { urgency: 'demand', signal: this.#closed })) pieces.push(piece)
    const absent = this.#arrival.absentParts(offset, target.length)
    await readHere()
    for (const part of absent) {
      for (const piece of pieces) copyPiece(piece, offset, target, part)
    }
  }

  async #fetch(lacking: readonly Run[]): Promise<void> {
    const flying: Promise<void>[] = []
    const own: Run[] = []
    for (const run of lacking) {
      let rest: Run[] = [run]
      const span = spanOf(run.offset, run.length)
      for (const flight of this.#flights) {
        if (flight.first >= span.end || span.first >= flight.end) continue
        flying.push(flight.done)
        rest = rest.flatMap((part) => this.#outside(part, flight))
      }
      own.push(...rest)
    }
    if (own.length > 0) flying.push(this.#start(own))
    await Promise.all(flying)
  }

  #outside(run: Run, flight: Span): Run[] {
    const span = spanOf(run.offset, run.length)
    const parts: Run[] = []
    const end = run.offset + run.length
    if (span.first < flight.first)
      parts.push({ offset: run.offset, length: Math.min(flight.first * blockSizeBytes, end) - run.offset })
    if (flight.end < span.end)
      parts.push({ offset: flight.end * blockSizeBytes, length: end - flight.end * blockSizeBytes })
    return parts.filter((part) => part.length > 0)
  }

  #start(runs: readonly Run[]): Promise<void> {
    const work = this.#run(runs)
    const flights = runs.map((run) => ({ ...spanOf(run.offset, run.length), done: work }))
    for (const flight of flights) this.#flights.add(flight)
    const end = () => {
      for (const flight of flights) this.#flights.delete(flight)
    }
    work.then(end, end)
    return work
  }

  async #run(runs: readonly Run[]): Promise<void> {
    for await (const piece of this.#source.fetch(runs, { urgency: 'demand', signal: this.#closed })) {
      await this.#land(piece)
      giveBack(piece.bytes)
    }
  }
}
