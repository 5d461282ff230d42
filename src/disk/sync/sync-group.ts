// Flushes of one disk, grouped: at most one sync runs and one waits. Whoever asks while one runs is covered by the next,
// because a sync covers only what was written before it began. A sync that failed is final (the kernel may have dropped
// the pages and would report success the next time): every later flush fails with the same error, until it is mended. What
// fails before a sync is tried, such as a map record that finds no room, fails that flush alone.

import { FailedSync } from '../../store/files.ts'

export interface SyncGroupFacts {
  /** A sync that failed before: it is as final as one that fails now. */
  readonly failure?: Error
  /** Called when a sync has failed; whoever asked for it is answered when this is over. Never rejects. */
  readonly onFailed?: (error: FailedSync) => Promise<void>
}

export class SyncGroup {
  readonly #sync: () => Promise<void>
  readonly #onFailed: (error: FailedSync) => Promise<void>
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined
  #failure: Error | undefined

  constructor(sync: () => Promise<void>, facts: SyncGroupFacts = {}) {
    this.#sync = sync
    this.#failure = facts.failure
    this.#onFailed = facts.onFailed ?? (async () => {})
  }

  get failure(): Error | undefined {
    return this.#failure
  }

  /** All that the failed sync did not cover has been written anew, and synced. */
  mended(): void {
    this.#failure = undefined
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
      async (error: unknown) => {
        if (error instanceof FailedSync) {
          this.#failure = error
          await this.#onFailed(error)
        }
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
