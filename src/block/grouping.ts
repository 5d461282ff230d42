// Work that many ask for, such as a sync, and that covers whatever was there before it began: at most one runs and one waits.
// Whoever asks while one runs is covered by the next, and all who ask meanwhile share that one.

export class Grouping {
  readonly #work: () => Promise<void>
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined

  constructor(work: () => Promise<void>) {
    this.#work = work
  }

  /** Resolves, or rejects, with a run of the work that began after this call. */
  ask(): Promise<void> {
    if (this.#next) return this.#next // It has not begun.
    if (!this.#running) return this.#start()
    this.#next = this.#running.catch(() => {}).then(() => this.#start())
    return this.#next
  }

  #start(): Promise<void> {
    this.#next = undefined
    const done = () => {
      if (this.#running === run) this.#running = undefined
    }
    const run: Promise<void> = this.#work().then(done, (error: unknown) => {
      done()
      throw error
    })
    this.#running = run
    return run
  }
}
