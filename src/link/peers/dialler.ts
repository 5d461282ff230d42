// Dials one peer for one purpose, until a lane is there. A dial that fails is followed by the next after a back-off, half of
// it by chance. A dial that gets no answer is not waited for: in a silent network TCP asks again after ever longer times, up
// to tens of seconds after the network is back. The next dial starts beside it within a second, and the first that succeeds
// wins. The oldest is let go on to its own deadline, for networks in which a dial takes long; of the younger ones at most
// three go on.

import type { Timers } from '../../block/clock.ts'
import { LinkError } from '../channel.ts'

export const firstBackoffMs = 250
export const maximumBackoffMs = 2000
/** After a peer that speaks another version: it answers at once, and is upgraded in minutes at best. */
export const incompatibleBackoffMs = 10_000
/** Between two sites that can both dial, the one with the greater id lets the other go first. */
export const yieldMs = 1000
/** The next dial starts after at most this long, and at least three quarters of it. */
export const overlapMs = 1000
export const maximumAttempts = 4
export const dialDeadlineMs = 15_000

export interface DiallerOptions {
  readonly clock: Timers
  /** 0 ≤ x < 1. */
  random(): number
  /** Whether a lane is missing. Looked at before each dial. */
  needed(): boolean
  /** Whether the other side goes first. Asked at each beginning. */
  yields(): boolean
  /** Dials once. Resolves when the lane is open; rejects when it failed, or when `signal` has aborted. */
  attempt(signal: AbortSignal): Promise<void>
  /** A dial was answered, and failed. */
  failed(error: unknown): void
  /** Ends everything. */
  readonly closing: AbortSignal
}

export class Dialler {
  readonly #options: DiallerOptions
  /** Under way, the oldest first. */
  readonly #attempts: AbortController[] = []
  #isRunning = false
  #failures = 0
  /** The last dial that was answered met another version. */
  #isIncompatible = false
  /** Ends the pause for the sake of the other side, or that between two dials; not a back-off. */
  #wake = () => {}
  #isYielding = false

  constructor(options: DiallerOptions) {
    this.#options = options
  }

  /** Dials until a lane is there, unless it does so already. */
  start(): void {
    if (this.#isRunning) return
    this.#isRunning = true
    void this.#dialUntilOpen().finally(() => {
      this.#isRunning = false
      if (this.#options.needed()) this.start()
    })
  }

  /** Something changed: somebody waits, or a lane is there. */
  look(): void {
    const { needed, yields } = this.#options
    if (!needed() || (this.#isYielding && !yields())) this.#wake()
  }

  /** A lane broke as soon as it was open: that is a failure, so that a peer that accepts and closes is not dialled in a loop. */
  unsteady(): void {
    this.#failures++
  }

  /** A lane has been open for a while. */
  steady(): void {
    this.#failures = 0
    this.#isIncompatible = false
  }

  async #dialUntilOpen(): Promise<void> {
    const { needed, yields, closing, random } = this.#options
    try {
      if (this.#failures > 0) await this.#pause(this.#backoffMs(), { mayBeWoken: false })
      else if (yields()) {
        this.#isYielding = true
        await this.#pause(yieldMs, { mayBeWoken: true })
        this.#isYielding = false
      }
      while (needed() && !closing.aborted) {
        const failures = this.#failures
        this.#dial()
        await this.#pause(overlapMs * (0.75 + 0.25 * random()), { mayBeWoken: true })
        if (needed() && this.#failures > failures) await this.#pause(this.#backoffMs(), { mayBeWoken: false })
      }
    } finally {
      for (const attempt of this.#attempts.splice(0)) attempt.abort()
    }
  }

  #dial(): void {
    if (this.#attempts.length >= maximumAttempts) this.#attempts.splice(1, 1)[0]?.abort()
    const attempt = new AbortController()
    this.#attempts.push(attempt)
    const deadline = afterDeadline(this.#options.clock, attempt)
    this.#options
      .attempt(attempt.signal)
      .catch((error: unknown) => {
        // Silence is no reason to dial less often: the overlap bounds that already.
        if (attempt.signal.aborted) return
        this.#failures++
        this.#isIncompatible = error instanceof LinkError && error.code === 'incompatible'
        this.#options.failed(error)
      })
      .finally(() => {
        deadline[Symbol.dispose]()
        const index = this.#attempts.indexOf(attempt)
        if (index >= 0) this.#attempts.splice(index, 1)
        if (!attempt.signal.aborted) this.#wake()
      })
  }

  /** Half of it fixed, half by chance: two sites that lost each other do not dial in step. */
  #backoffMs(): number {
    const growingMs = Math.min(maximumBackoffMs, firstBackoffMs * 2 ** Math.min(this.#failures - 1, 10))
    const ceilingMs = this.#isIncompatible ? incompatibleBackoffMs : growingMs
    return ceilingMs / 2 + (ceilingMs / 2) * this.#options.random()
  }

  #pause(delayMs: number, { mayBeWoken }: { mayBeWoken: boolean }): Promise<void> {
    const { clock, closing } = this.#options
    return new Promise((resolve) => {
      const end = () => {
        timer[Symbol.dispose]()
        closing.removeEventListener('abort', end)
        this.#wake = () => {}
        resolve()
      }
      const timer = clock.after(delayMs, end)
      closing.addEventListener('abort', end, { once: true })
      if (mayBeWoken) this.#wake = end
    })
  }
}

/** Gives a dial up in the end. */
export function afterDeadline(clock: Timers, dial: AbortController): Disposable {
  return clock.after(dialDeadlineMs, () =>
    dial.abort(new LinkError('unreachable', `the peer did not answer within ${dialDeadlineMs / 1000} s`)),
  )
}
