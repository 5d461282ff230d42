// Time, injected wherever it is needed: `disk` and `migration` see all of it, so that the crash model can drive them from a
// seed; a link sees delays alone, and tests of links drive these by hand.

import type { Urgency } from './units.ts'

export interface Clock {
  /** Milliseconds that only go forward. */
  now(): number
  /** The time of day, for records and people. */
  date(): Date
  /** Rejects with `signal.reason` when aborted. */
  sleep(durationMs: number, signal?: AbortSignal): Promise<void>
  /**
   * Resolves when one short step of work that no guest's request should wait for may be done (block/turns.ts). `demand`: a
   * guest waits for it. `of`: for which peer; of several each has its turn.
   */
  turn(urgency?: Urgency, of?: string): Promise<void>
}

/** Delays, for whoever reads neither clock nor date. */
export interface Timers {
  /** Calls `run` once, after `delayMs`, unless disposed before. */
  after(delayMs: number, run: () => void): Disposable
}

/** Real ones. A link that waits for its next ping is no reason for a process to stay. */
export const systemTimers: Timers = {
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs).unref()
    return { [Symbol.dispose]: () => clearTimeout(timer) }
  },
}
