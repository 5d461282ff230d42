// Gives background work its turns of the event loop: comparing, copying, and reading for a peer. One short step in a turn,
// of all disks and migrations together, so that a guest's request waits for one such step at most, however many there are.
// Always: whoever asked first goes first, and what a guest waits for goes before everything else.

import type { Urgency } from './units.ts'

/** Turns of the event loop, so that tests have their own. */
export type NextTurn = (call: () => void) => void

/** How much of a long computation over bytes is one step: 64 KiB are hashed in about 40 µs, with SHA instructions. */
export const stepBytes = 64 * 1024

export class Turns {
  readonly #nextTurn: NextTurn
  readonly #waiting: Record<Urgency, (() => void)[]> = { demand: [], background: [] }
  #isDue = false

  constructor(nextTurn: NextTurn = (call) => void setImmediate(call)) {
    this.#nextTurn = nextTurn
  }

  /** Resolves in a later turn of the loop, which is the caller's alone. */
  next(urgency: Urgency = 'background'): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting[urgency].push(resolve)
      if (this.#isDue) return
      this.#isDue = true
      this.#nextTurn(() => this.#turn())
    })
  }

  #turn(): void {
    const { demand, background } = this.#waiting
    const resolve = demand.shift() ?? background.shift()
    this.#isDue = demand.length + background.length > 0
    if (this.#isDue) this.#nextTurn(() => this.#turn())
    resolve?.()
  }
}

/** The turns of this thread's loop. */
export const loopTurns = new Turns()
