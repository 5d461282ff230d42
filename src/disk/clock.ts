// Time, as `disk` and `migration` see it: injected, so that the crash model can drive them from a seed.

export interface Clock {
  /** Milliseconds that only go forward. */
  now(): number
  /** The time of day, for records and people. */
  date(): Date
  /** Rejects with `signal.reason` when aborted. */
  sleep(durationMs: number, signal?: AbortSignal): Promise<void>
}
