// Turns what is pushed into what is pulled, for streams of events: bounded, dropping the oldest that may be dropped.

const maximumWaiting = 256

export class EventQueue<T> {
  readonly #items: T[] = []
  readonly #mayDrop: (item: T) => boolean
  #wake: (() => void) | undefined
  #ended = false

  constructor(mayDrop: (item: T) => boolean) {
    this.#mayDrop = mayDrop
  }

  push(item: T): void {
    if (this.#ended) return
    if (this.#items.length >= maximumWaiting) {
      const index = this.#items.findIndex(this.#mayDrop)
      this.#items.splice(Math.max(index, 0), 1)
    }
    this.#items.push(item)
    this.#wake?.()
  }

  /** Nothing comes any more; what was pushed is still given out. */
  end(): void {
    this.#ended = true
    this.#wake?.()
  }

  async *drain(signal: AbortSignal): AsyncGenerator<T> {
    const wake = () => this.#wake?.()
    signal.addEventListener('abort', wake)
    try {
      while (!signal.aborted) {
        const item = this.#items.shift()
        if (item !== undefined) yield item
        else if (this.#ended) return
        else await new Promise<void>((resolve) => (this.#wake = resolve))
      }
    } finally {
      signal.removeEventListener('abort', wake)
    }
  }
}
