// `--max-rate`: lets bytes through at a bound on their long-run rate, a tenth of a second's worth at a time.

import type { Clock } from '../../block/clock.ts'

const burstSeconds = 0.1

export class RateLimit {
  readonly #clock: Clock
  #bytesPerSecond: number | null
  /** When the bytes that were let through are paid for. */
  #paidUntil: number

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
  }

  /** Resolves when `bytes` may go. */
  async pass(bytes: number, signal: AbortSignal): Promise<void> {
    const rate = this.#bytesPerSecond
    if (rate === null) return
    const now = this.#clock.now()
    const earliest = Math.max(this.#paidUntil, now - burstSeconds * 1000)
    this.#paidUntil = earliest + (bytes * 1000) / rate
    if (earliest > now) await this.#clock.sleep(earliest - now, signal)
  }

  /** So many of the bytes that were let through were not sent after all. */
  giveBack(bytes: number): void {
    if (this.#bytesPerSecond !== null) this.#paidUntil -= (bytes * 1000) / this.#bytesPerSecond
  }
}
