// `--max-rate`: lets bytes through at a bound on their long-run rate, a tenth of a second's worth at a time. The bound may change
// at any time: whoever waits waits by the new one from then on, and what went before is forgotten.

import type { Clock } from '../../block/clock.ts'

const burstSeconds = 0.1

export class RateLimit {
  readonly #clock: Clock
  #bytesPerSecond: number | null
  /** When the bytes that were let through are paid for. */
  #paidUntil: number
  /** Aborts when the bound changes. */
  #bound = new AbortController()

  constructor(clock: Clock, bytesPerSecond: number | null) {
    this.#clock = clock
    this.#bytesPerSecond = bytesPerSecond
    this.#paidUntil = clock.now()
  }

  get bytesPerSecond(): number | null {
    return this.#bytesPerSecond
  }

  set bytesPerSecond(value: number | null) {
    this.#bytesPerSecond = value
    this.#paidUntil = this.#clock.now()
    const before = this.#bound
    this.#bound = new AbortController()
    before.abort()
  }

  /** Resolves when `bytes` may go. */
  async pass(bytes: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      const rate = this.#bytesPerSecond
      if (rate === null) return
      const now = this.#clock.now()
      const earliest = Math.max(this.#paidUntil, now - burstSeconds * 1000)
      this.#paidUntil = earliest + (bytes * 1000) / rate
      if (earliest <= now) return
      const bound = this.#bound.signal
      try {
        return await this.#clock.sleep(earliest - now, AbortSignal.any([signal, bound]))
      } catch (error) {
        if (signal.aborted || !bound.aborted) throw error
      }
    }
  }

  /** So many of the bytes that were let through were not sent after all. */
  giveBack(bytes: number): void {
    if (this.#bytesPerSecond !== null) this.#paidUntil -= (bytes * 1000) / this.#bytesPerSecond
  }
}
