// Looks for the next request instead of sleeping, for as long as it is likely to come at once. With one request in flight
// a sleep and its wake-up take longer than the request itself (QEMU's event loop does the same: poll-max-ns). It costs the
// processor time that it waits, so it is bounded and learns: only while requests lately came within the bound after the
// last answer, and no longer than four times as late as they did.

import { performance } from 'node:perf_hooks'

/** Time, and turns of the event loop, so that tests have their own. */
export interface PollClock {
  nowMs(): number
  /** Calls once the loop has looked for what has come. */
  nextTurn(call: () => void): void
}

const systemClock: PollClock = { nowMs: () => performance.now(), nextTurn: (call) => void setImmediate(call) }

/** How much of a new gap enters the mean. */
const learning = 1 / 8

/** How many mean gaps it waits for. */
const deadlines = 4

export class BusyPoll {
  readonly #maxMs: number
  readonly #clock: PollClock
  /** Mean time from the end of one batch to the beginning of the next, each counted as twice the bound at most. */
  #meanGapMs: number
  #idleSinceMs = 0
  #untilMs = 0
  #isPolling = false
  readonly #look = (): void => {
    if (this.#clock.nowMs() < this.#untilMs) this.#clock.nextTurn(this.#look)
    else this.#isPolling = false
  }

  /** `maxMs` 0: never. */
  constructor(maxMs: number, clock: PollClock = systemClock) {
    this.#maxMs = maxMs
    this.#clock = clock
    this.#meanGapMs = 2 * maxMs
  }

  /** A client's bytes have come. */
  began(): void {
    if (this.#maxMs === 0 || this.#idleSinceMs === 0) return
    const gapMs = Math.min(this.#clock.nowMs() - this.#idleSinceMs, 2 * this.#maxMs)
    this.#meanGapMs += (gapMs - this.#meanGapMs) * learning
    this.#idleSinceMs = 0
  }

  /** All that can be done with them now is done. */
  ended(): void {
    if (this.#maxMs === 0) return
    this.#idleSinceMs = this.#clock.nowMs()
    if (this.#meanGapMs > this.#maxMs) return
    this.#untilMs = this.#idleSinceMs + Math.min(deadlines * this.#meanGapMs, this.#maxMs)
    if (this.#isPolling) return
    this.#isPolling = true
    this.#clock.nextTurn(this.#look)
  }
}
