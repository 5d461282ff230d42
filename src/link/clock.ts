// Time as links see it: only delays, so that tests drive it by hand. Nothing here reads the date.

export interface Clock {
  /** Calls `run` once, after `delayMs`, unless disposed before. */
  after(delayMs: number, run: () => void): Disposable
}

export const systemClock: Clock = {
  after(delayMs, run) {
    // A link waiting for its next ping is no reason for a process to stay.
    const timer = setTimeout(run, delayMs).unref()
    return { [Symbol.dispose]: () => clearTimeout(timer) }
  },
}
