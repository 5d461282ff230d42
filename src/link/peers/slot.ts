// One stripe of one purpose, to one peer: when its lane is missing, and which of its lanes requests take.
//
// Requests take the newest open lane; duplicates are harmless. A lane that is silent (link/lane/pulse.ts) counts as missing
// while a fresh one is dialled, and is closed only when there is another that is not silent: what was under way on it is then
// asked for again. If it is heard of first, nothing has happened. So it is given up for dead no sooner than another stream has
// made its four round trips: however slow a network is, it is no slower for one than the other.

import type { Timers } from '../../block/clock.ts'
import { LinkError, type Purpose } from '../channel.ts'
import type { Lane } from '../lane/lane.ts'
import { Dialler } from './dialler.ts'

/** A lane that broke sooner counts as a failed attempt. */
const steadyMs = 2000

export interface SlotOptions {
  readonly purpose: Purpose
  readonly stripe: number
  readonly clock: Timers
  /** 0 ≤ x < 1. */
  random(): number
  readonly closing: AbortSignal
  /** Whether a lane is wanted, though nothing is under way. */
  wanted(): boolean
  /** Whether the other side goes first. */
  yields(): boolean
  /** Dials once, and adds the lane. */
  dial(signal: AbortSignal): Promise<void>
  dialFailed(error: unknown): void
  /** Whether the slot is heard of may have changed. `why`: what to say if nothing is heard any more. */
  changed(why: string): void
  closed(error: LinkError): void
}

export class Slot {
  readonly purpose: Purpose
  readonly stripe: number
  readonly #options: SlotOptions
  readonly #dialler: Dialler
  /** Open ones, the newest last. */
  readonly #lanes: Lane[] = []

  constructor(options: SlotOptions) {
    const { clock, closing, random, yields, dial, dialFailed } = options
    this.purpose = options.purpose
    this.stripe = options.stripe
    this.#options = options
    this.#dialler = new Dialler({
      clock,
      random,
      closing,
      yields,
      needed: () => this.#isNeeded,
      attempt: dial,
      failed: dialFailed,
    })
  }

  get laneCount(): number {
    return this.#lanes.length
  }

  get isHeard(): boolean {
    return this.#lanes.some((lane) => !lane.isSilent)
  }

  /** The one that a request takes. */
  get lane(): Lane | undefined {
    return this.#lanes.findLast((lane) => !lane.isSilent) ?? this.#lanes.at(-1)
  }

  /** Dials if a lane is missing. */
  start(): void {
    if (this.#isNeeded) this.#dialler.start()
  }

  /** Somebody waits for a lane. */
  awaited(): void {
    this.#dialler.look()
    this.#dialler.start()
  }

  /** A lane that is open. */
  add(lane: Lane): void {
    const { clock, closing, changed, closed } = this.#options
    this.#lanes.push(lane)
    let steady = false
    const timer = clock.after(steadyMs, () => {
      steady = true
      this.#dialler.steady()
    })
    lane.onClosed((error) => {
      timer[Symbol.dispose]()
      const index = this.#lanes.indexOf(lane)
      if (index >= 0) this.#lanes.splice(index, 1)
      closed(error)
      if (closing.aborted) return
      changed(error.message)
      if (!steady && this.#lanes.length === 0) this.#dialler.unsteady()
      this.start()
    })
    if (!lane.isOpen) return
    lane.onSilence(() => this.#silenceChanged())
    this.#silenceChanged()
  }

  /** Closes the oldest idle lane, or the oldest. */
  closeOne(): void {
    const lane = this.#lanes.find((each) => each.outstanding === 0) ?? this.#lanes[0]
    lane?.close()
  }

  close(error: LinkError): void {
    for (const lane of [...this.#lanes]) lane.close(error)
  }

  get #isNeeded(): boolean {
    const { closing, wanted } = this.#options
    if (closing.aborted || this.isHeard) return false
    return wanted() || this.#lanes.some((lane) => lane.outstanding > 0)
  }

  /** A lane is new, has fallen silent, or is heard of again. */
  #silenceChanged(): void {
    this.#options.changed('nothing is heard of it any more')
    if (this.isHeard) {
      for (const lane of this.#lanes.filter(({ isSilent }) => isSilent)) {
        lane.close(new LinkError('lost', 'the connection is silent, and another one is not'))
      }
    }
    this.#dialler.look()
    this.start()
  }
}
