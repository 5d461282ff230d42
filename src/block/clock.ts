// Time, as `disk` and `migration` see it: injected, so that the crash model can drive them from a seed.

export interface Clock {
  /** Milliseconds that only go forward. */
  now(): number
  /** The time of day, for records and people. */
  date(): Date
  /** Rejects with `signal.reason` when aborted. */
  sleep(durationMs: number, signal?: AbortSignal): Promise<void>
  /**
   * Resolves when one short step of work that no guest's request should wait for may be done (block/turns.ts). `demand`: a
   * guest waits for it.
   */
  turn(urgency?: 'demand' | 'background'): Promise<void>
}
