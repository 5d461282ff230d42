// Flushes of one disk, grouped (block/grouping.ts): a sync covers only what was written before it began. A sync that failed
// is final (the kernel may have dropped the pages and would report success the next time): every later flush fails with the
// same error, until it is mended. What fails before a sync is tried, such as a map record that finds no room, fails that
// flush alone.

import { Grouping } from '../../block/grouping.ts'
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
  readonly #grouping = new Grouping(() => this.#run())
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
    return this.#failure ? Promise.reject(this.#failure) : this.#grouping.ask()
  }

  async #run(): Promise<void> {
    if (this.#failure) throw this.#failure // It came while this run waited for its turn.
    try {
      await this.#sync()
    } catch (error) {
      if (error instanceof FailedSync) {
        this.#failure = error
        await this.#onFailed(error)
      }
      throw error
    }
  }
}
