// Bytes a second over a sliding window. Pure but for the clock that it is given.

import type { Clock } from '../../block/clock.ts'

const windowMs = 3000
const bucketMs = 250

export class RateMeter {
  readonly #clock: Clock
  readonly #buckets: { at: number; bytes: number }[] = []
  readonly #startedAt: number

  constructor(clock: Clock) {
    this.#clock = clock
    this.#startedAt = clock.now()
  }

  add(bytes: number): void {
    const at = Math.floor(this.#clock.now() / bucketMs) * bucketMs
    const last = this.#buckets.at(-1)
    if (last?.at === at) last.bytes += bytes
    else this.#buckets.push({ at, bytes })
    this.#expire()
  }

  /** Bytes a second. */
  rate(): number {
    this.#expire()
    const spanMs = Math.min(windowMs, Math.max(this.#clock.now() - this.#startedAt, bucketMs))
    return (this.#buckets.reduce((sum, bucket) => sum + bucket.bytes, 0) * 1000) / spanMs
  }

  #expire(): void {
    const oldest = this.#clock.now() - windowMs
    while (this.#buckets[0] && this.#buckets[0].at < oldest) this.#buckets.shift()
  }
}
