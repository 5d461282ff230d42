// Flushes of one disk, grouped: at most one sync runs and one waits. Whoever asks while one runs is covered by the next,
// because a sync covers only what was written before it began. A sync that failed is final (the kernel may have dropped
// the pages and would report success the next time): every later flush fails with the same error. What fails before a
// sync is tried, such as a map record that finds no room, fails that flush alone.

import { FailedSync } from '../store/files.ts'

export class SyncGroup {
  readonly #sync: () => Promise<void>
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined
  #failure: Error | undefined

  constructor(sync: () => Promise<void>) {
    this.#sync = sync
  }

  get failure(): Error | undefined {
    return this.#failure
  }

  /** Resolves when everything written before this call is durable. */
  flush(): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure)
    if (this.#next) return this.#next // It has not begun.
    if (!this.#running) return this.#start()
    this.#next = this.#running.catch(() => {}).then(() => this.#start())
    return this.#next
  }

  #start(): Promise<void> {
    this.#next = undefined
    if (this.#failure) return Promise.reject(this.#failure)
    const run: Promise<void> = this.#sync().then(
      () => this.#done(run),
      (error: unknown) => {
        if (error instanceof FailedSync) this.#failure = error
        this.#done(run)
        throw error
      },
    )
    this.#running = run
    return run
  }

  #done(run: Promise<void>): void {
    if (this.#running === run) this.#running = undefined
  }
}
