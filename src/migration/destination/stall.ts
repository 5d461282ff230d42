// `--stall-timeout`: ends a demand fetch whose source has not been heard for so long, so that the guest's read fails
// instead of waiting on. Without it a read waits for the source for ever.

import type { Clock } from '../../block/clock.ts'
import { GuestError } from '../../guest/export.ts'

export class Stall implements Disposable {
  readonly #clock: Clock
  readonly #timeoutMs: number
  readonly #over = new AbortController()
  readonly #expired = new AbortController()
  #heardMs: number

  constructor(clock: Clock, timeoutMs: number) {
    this.#clock = clock
    this.#timeoutMs = timeoutMs
    this.#heardMs = clock.now()
    this.#watch().catch(() => {}) // The fetch is over.
  }

  /** Aborts, with the error that the guest is told, when the source was not heard for too long. */
  get signal(): AbortSignal {
    return this.#expired.signal
  }

  /** Something came. */
  heard(): void {
    this.#heardMs = this.#clock.now()
  }

  [Symbol.dispose](): void {
    this.#over.abort()
  }

  async #watch(): Promise<void> {
    for (;;) {
      const leftMs = this.#heardMs + this.#timeoutMs - this.#clock.now()
      if (leftMs <= 0) break
      await this.#clock.sleep(leftMs, this.#over.signal)
    }
    const seconds = this.#timeoutMs / 1000
    this.#expired.abort(new GuestError('io', `nothing came from the source for ${seconds} s: --stall-timeout is over`))
  }
}
