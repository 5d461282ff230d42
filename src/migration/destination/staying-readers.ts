// Whether a client that only reads has come to stay at the destination. A probe (nbdinfo, qemu-img info) opens the disk, looks
// and goes: it moves nothing. What counts is a session that has been open for a while and has read.
//
// What always holds: it is looked at only while a client is attached to one of the disks of a move that have not moved.

import type { Clock } from '../../block/clock.ts'
import type { AttachedSessions } from '../../disk/sessions.ts'

/** No probe takes so long, and a guest that reads from afar for so long is there to stay. */
export const stayMs = 10_000
const lookEveryMs = 1000

export interface StayingReadersParts {
  readonly clock: Clock
  /** Of each disk of the move. */
  readonly sessions: readonly Pick<AttachedSessions, 'all' | 'count'>[]
  /** Ends when the disk is here, or never will be, or this site stops. */
  readonly signal: AbortSignal
  /** One has stayed and read. */
  came(): void
}

export class StayingReaders {
  readonly #parts: StayingReadersParts
  readonly #openedMs = new WeakMap<object, number>()
  #isWatching = false

  constructor(parts: StayingReadersParts) {
    this.#parts = parts
  }

  /** One is there. */
  get any(): boolean {
    const { clock } = this.#parts
    for (const session of this.#all) {
      const openedMs = this.#openedMs.get(session)
      if (session.hasRead && openedMs !== undefined && clock.now() - openedMs >= stayMs) return true
    }
    return false
  }

  /** A session came, went or broke. */
  changed(): void {
    const { clock } = this.#parts
    for (const session of this.#all) if (!this.#openedMs.has(session)) this.#openedMs.set(session, clock.now())
    if (!this.#isWatching && this.#isAttached) void this.#watch()
  }

  get #all() {
    return this.#parts.sessions.flatMap((sessions) => [...sessions.all])
  }

  get #isAttached(): boolean {
    return this.#parts.sessions.some((sessions) => sessions.count > 0)
  }

  async #watch(): Promise<void> {
    const { clock, signal, came } = this.#parts
    this.#isWatching = true
    try {
      while (this.#isAttached && !this.any) await clock.sleep(lookEveryMs, signal)
      if (!signal.aborted && this.any) came()
    } catch {
      // There is nothing to look for any more.
    } finally {
      this.#isWatching = false
    }
  }
}
