// Time that goes on only when nothing else can: for whatever waits for timers and for promises alone.

export class VirtualClock {
  #now = 0
  #sleepers: { readonly at: number; readonly wake: () => void }[] = []
  /** How long each sleep was that ran to its end. */
  readonly slept: number[] = []

  now = (): number => this.#now

  sleep = (durationMs: number, signal?: AbortSignal): Promise<void> => {
    if (signal?.aborted) return Promise.reject(signal.reason)
    const done = Promise.withResolvers<void>()
    const sleeper = {
      at: this.#now + durationMs,
      wake: () => {
        this.slept.push(durationMs)
        done.resolve()
      },
    }
    this.#sleepers.push(sleeper)
    signal?.addEventListener('abort', () => {
      this.#sleepers = this.#sleepers.filter((other) => other !== sleeper)
      done.reject(signal.reason)
    })
    return done.promise
  }

  /** Until it is settled. */
  async run<Result>(promise: Promise<Result>): Promise<Result> {
    let isSettled = false
    const settled = promise.finally(() => {
      isSettled = true
    })
    settled.catch(() => undefined)
    while (!isSettled) {
      await new Promise((resolve) => setImmediate(resolve))
      if (isSettled) break
      this.#sleepers.sort((one, other) => one.at - other.at)
      const next = this.#sleepers.shift()
      if (!next) continue
      this.#now = next.at
      next.wake()
    }
    return await settled
  }
}
