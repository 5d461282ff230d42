// How long a copy has really copied: its time without what it was held for (the link was down, the operator paused it, it
// waited for room). Only a figure for people.

import type { Clock } from '../../block/clock.ts'

export type Hold = 'idle' | 'link' | 'pause' | 'trouble'

export class CopyTime {
  readonly #clock: Clock
  readonly #holds = new Set<Hold>(['idle'])
  #countedMs: number
  #sinceMs: number | undefined

  /** `countedMs`: what is on record. */
  constructor(clock: Clock, countedMs: number) {
    this.#clock = clock
    this.#countedMs = countedMs
  }

  /** Whole milliseconds. */
  get ms(): number {
    const running = this.#sinceMs === undefined ? 0 : this.#clock.now() - this.#sinceMs
    return Math.round(this.#countedMs + running)
  }

  get isHeld(): boolean {
    return this.#holds.size > 0
  }

  set(hold: Hold, isOn: boolean): void {
    this.#countedMs = this.ms
    if (isOn) this.#holds.add(hold)
    else this.#holds.delete(hold)
    this.#sinceMs = this.isHeld ? undefined : this.#clock.now()
  }
}
