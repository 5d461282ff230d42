// What all connections of a server together may do in one turn of the event loop, so that the turn stays short however many
// they are: about a millisecond, counted in steps of a short request. Whoever finds it used up waits for a turn that has
// room, first come, first served.
// Always: between two renewals no more is begun than the share and one piece of work. It is renewed in the turn after it
// was used up, and not before, so that a turn with little to do costs nothing.

import type { NextTurn } from '../block/turns.ts'

/** So many steps, which are short requests, count as much as one piece of a long one. */
export const pieceSteps = 16

/** And a status, on top of what its extents cost. */
export const statusSteps = 64
export const extentSteps = 8

/** And whatever goes to the thread pool: a zeroing, a prefetch. */
export const pooledSteps = 8

/** What each connection begins in a turn whatever the others have begun, so that nobody waits behind a flood. */
export const freeSteps = 8

export class TurnShare {
  readonly #steps: number
  readonly #nextTurn: NextTurn
  readonly #waiting: (() => void)[] = []
  #leftSteps: number

  constructor(steps: number, nextTurn: NextTurn = (call) => void setImmediate(call)) {
    this.#steps = steps
    this.#nextTurn = nextTurn
    this.#leftSteps = steps
  }

  get isSpent(): boolean {
    return this.#leftSteps <= 0
  }

  spend(steps: number): void {
    const wasSpent = this.#leftSteps <= 0
    this.#leftSteps -= steps
    if (!wasSpent && this.#leftSteps <= 0) this.#nextTurn(() => this.#renew())
  }

  /** To be called when it is spent. Calls `go` in a turn that has room. */
  whenRenewed(go: () => void): void {
    this.#waiting.push(go)
  }

  #renew(): void {
    this.#leftSteps = this.#steps
    while (this.#leftSteps > 0) {
      const go = this.#waiting.shift()
      if (go === undefined) return
      go()
    }
  }
}
