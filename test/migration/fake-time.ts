// Time that stands still until the test moves it.

import type { Clock } from '../../src/block/clock.ts'
import { settled } from '../disk/hand.ts'

export class FakeClock implements Clock {
  #nowMs = 0
  #sleepers: { readonly atMs: number; readonly wake: () => void }[] = []

  now(): number {
    return this.#nowMs
  }

  date(): Date {
    return new Date(1_700_000_000_000 + this.#nowMs)
  }

  get sleeping(): number {
    return this.#sleepers.length
  }

  sleep(durationMs: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason)
    return new Promise((resolve, reject) => {
      const sleeper = { atMs: this.#nowMs + durationMs, wake: resolve }
      this.#sleepers.push(sleeper)
      signal?.addEventListener(
        'abort',
        () => {
          this.#sleepers = this.#sleepers.filter((each) => each !== sleeper)
          reject(signal.reason)
        },
        { once: true },
      )
    })
  }

  async turn(): Promise<void> {}

  /** Lets time pass, and all that is due in it happen, in order. */
  async advance(durationMs: number): Promise<void> {
    const end = this.#nowMs + durationMs
    await settled()
    for (;;) {
      const next = this.#sleepers.filter(({ atMs }) => atMs <= end).sort((a, b) => a.atMs - b.atMs)[0]
      if (!next) break
      this.#nowMs = Math.max(this.#nowMs, next.atMs)
      this.#sleepers = this.#sleepers.filter((each) => each !== next)
      next.wake()
      await settled()
    }
    this.#nowMs = end
    await settled()
  }
}
