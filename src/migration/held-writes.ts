// Guests' writes at a destination that does not own yet: those that wait for switchover, and those that were refused because
// it did not come in time. Who, since when and why, for the operators at both sites. Nothing is decided by it.

import { z } from 'zod'
import type { Clock } from '../block/clock.ts'
import type { RefusedWritesRecord } from '../store/records.ts'
import { peerWords } from './peer-words.ts'

/** Clients that are named. */
export const namedClients = 4

export interface HeldWrites {
  /** Who waits: addresses as the destination sees them. */
  readonly clients: readonly string[]
  /** Time of day. */
  readonly since: string
  readonly why: string
}

/** What is known of both. */
export interface WaitingGuests {
  readonly held: HeldWrites | null
  readonly refused: RefusedWritesRecord | null
}

export const nobodyWaits: WaitingGuests = { held: null, refused: null }

const clients = z.array(peerWords(200)).max(namedClients)
const why = peerWords(1000)
const when = z.iso.datetime()
/** What a destination tells its source. */
export const waitingGuests = z.object({
  held: z.object({ clients, since: when, why }).nullable(),
  refused: z.object({ count: z.number().int().positive(), clients, last: when, why }).nullable(),
})

export interface HeldWritesParts {
  readonly clock: Clock
  /** Who has writes in flight here now. */
  clients(): readonly string[]
  /** What they wait for: a sentence's end. */
  why(): string
  /** Something is to be told. */
  changed(): void
}

export class HeldWritesWatch {
  readonly #parts: HeldWritesParts
  #waiting = 0
  #since: Date | undefined
  #refused: RefusedWritesRecord | null = null

  /** `refused`: what is on record. */
  constructor(parts: HeldWritesParts, refused: RefusedWritesRecord | null) {
    this.#parts = parts
    this.#refused = refused
  }

  get now(): WaitingGuests {
    const { clients, why } = this.#parts
    const held = this.#since && {
      clients: clients().slice(0, namedClients),
      since: this.#since.toISOString(),
      why: why(),
    }
    return { held: held ?? null, refused: this.#refused }
  }

  /** A write begins to wait. Dispose when it goes on, or does not. */
  enter(): Disposable {
    this.#waiting++
    if (this.#waiting === 1) {
      this.#since = this.#parts.clock.date()
      this.#parts.changed()
    }
    return {
      [Symbol.dispose]: () => {
        this.#waiting--
        if (this.#waiting > 0) return
        this.#since = undefined
        this.#parts.changed()
      },
    }
  }

  /** A write that waited was refused. To be called while it counts as waiting still. */
  refuse(why: string): void {
    const { clients, clock, changed } = this.#parts
    const last = clock.date().toISOString()
    this.#refused = { count: (this.#refused?.count ?? 0) + 1, clients: clients().slice(0, namedClients), last, why }
    changed()
  }
}
