// What an incoming or arriving disk has of its move (disk's RemotePart): the phases of the course serve it, each with its part
// for this disk. The disk is opened with it, and the course is made of the open disks: so it is there first, and is connected
// as soon as all of them are open.
//
// What always holds: a guest that comes before that waits for it.

import assert from 'node:assert/strict'
import type { Piece, Run, Urgency } from '../../block/units.ts'
import type { BlockSource } from '../../disk/block-source.ts'
import type { Landed, RemotePart } from '../../disk/remote-part.ts'
import { unlessAborted } from '../unless-aborted.ts'
import type { ArrivingDisk } from './phases/arriving-disk.ts'
import type { IncomingDisk } from './phases/incoming-disk.ts'

export interface RemotePhases {
  readonly incoming: IncomingDisk
  readonly arriving: ArrivingDisk
  /** Of what lands before switchover. */
  landedAhead(landed: Landed): void
}

export class Remote implements RemotePart {
  #phases: RemotePhases | undefined
  readonly #connected = Promise.withResolvers<RemotePhases>()
  readonly source = this.#fetching(({ incoming }) => incoming.reads)
  readonly frozen = this.#fetching(({ arriving }) => arriving.frozen)

  constructor() {
    this.#connected.promise.catch(() => {}) // It is told to whoever waits.
  }

  connect(phases: RemotePhases): void {
    this.#phases = phases
    this.#connected.resolve(phases)
  }

  /** There is no course: another disk of the move could not be opened. */
  fail(error: unknown): void {
    this.#connected.reject(error)
  }

  landed(landed: Landed): void {
    assert(this.#phases) // What lands was fetched.
    if (this.#phases.arriving.coming.isArriving) this.#phases.arriving.landed(landed)
    else this.#phases.landedAhead(landed)
  }

  async askSwitchover(signal: AbortSignal): Promise<void> {
    const { incoming } = this.#phases ?? (await this.#untilConnected(signal))
    await incoming.askSwitchover(signal)
  }

  async flushSource(signal: AbortSignal): Promise<void> {
    const { incoming } = this.#phases ?? (await this.#untilConnected(signal))
    await incoming.flushes.flush(signal)
  }

  #untilConnected(signal: AbortSignal): Promise<RemotePhases> {
    return unlessAborted(this.#connected.promise, signal)
  }

  #fetching(of: (phases: RemotePhases) => BlockSource): BlockSource {
    const untilConnected = (signal: AbortSignal) => this.#untilConnected(signal)
    async function* later(runs: readonly Run[], options: Options): AsyncGenerator<Piece> {
      yield* of(await untilConnected(options.signal)).fetch(runs, options)
    }
    return { fetch: (runs, options) => (this.#phases ? of(this.#phases).fetch(runs, options) : later(runs, options)) }
  }
}

interface Options {
  readonly urgency: Urgency
  readonly signal: AbortSignal
}
