// Gives background work its turns of the event loop: comparing, copying, and reading for a peer. One short step in a turn,
// of all disks and migrations together, so that a guest's request waits for one such step at most, however many there are.
// Always: what a guest waits for goes before everything else; then whoever's turn it is, of all for whom work waits, so that
// nobody has more of the loop by asking for more at once; and of one, whoever asked first.

import type { Urgency } from './units.ts'

/** Turns of the event loop, so that tests have their own. */
export type NextTurn = (call: () => void) => void

/** How much of a long computation over bytes is one step: 64 KiB are hashed in about 40 µs, with SHA instructions. */
export const stepBytes = 64 * 1024

/** Work that waits, by whom it is done for: in the order in which they have their turns. */
type Waiting = Map<string, (() => void)[]>

export class Turns {
  readonly #nextTurn: NextTurn
  readonly #waiting: Record<Urgency, Waiting> = { demand: new Map(), background: new Map() }
  #isDue = false

  constructor(nextTurn: NextTurn = (call) => void setImmediate(call)) {
    this.#nextTurn = nextTurn
  }

  /** Resolves in a later turn of the loop, which is the caller's alone. `of`: for which peer it is; '': for this site itself. */
  next(urgency: Urgency = 'background', of = ''): Promise<void> {
    return new Promise((resolve) => {
      const waiting = this.#waiting[urgency]
      const theirs = waiting.get(of)
      if (theirs) theirs.push(resolve)
      else waiting.set(of, [resolve])
      if (this.#isDue) return
      this.#isDue = true
      this.#nextTurn(() => this.#turn())
    })
  }

  #turn(): void {
    const { demand, background } = this.#waiting
    const resolve = taken(demand) ?? taken(background)
    this.#isDue = demand.size + background.size > 0
    if (this.#isDue) this.#nextTurn(() => this.#turn())
    resolve?.()
  }
}

/** The first of whoever is first, who goes to the end of the line. */
function taken(waiting: Waiting): (() => void) | undefined {
  for (const [of, theirs] of waiting) {
    const first = theirs.shift()
    waiting.delete(of)
    if (theirs.length > 0) waiting.set(of, theirs)
    return first
  }
  return undefined
}

/** The turns of this thread's loop. */
export const loopTurns = new Turns()
