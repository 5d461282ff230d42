// The items of one answer, for one reader that asks for one after the other. No generator, so that it costs a read of a
// missing block no more than it must. Once it has ended, thrown or was left, the request is let go of, once.

import { aborted } from '../channel.ts'

export interface IncomingOptions<Value> {
  /** undefined: that was all. */
  next(): Promise<Value | undefined>
  leave(): void
  /** Whose abort leaves it too, though nobody may be reading. */
  readonly signal?: AbortSignal
}

export class Incoming<Value> implements AsyncIterableIterator<Value> {
  readonly #options: IncomingOptions<Value>
  /** left: by its reader, or because it threw, or was given up. */
  #state: 'open' | 'done' | 'left' = 'open'
  readonly #giveUp = () => this.#end('left')

  constructor(options: IncomingOptions<Value>) {
    this.#options = options
    options.signal?.addEventListener('abort', this.#giveUp, { once: true })
  }

  async next(): Promise<IteratorResult<Value, undefined>> {
    const { signal } = this.#options
    if (this.#state === 'left' && signal?.aborted) throw aborted(signal) // No end, but a cut.
    if (this.#state !== 'open') return { done: true, value: undefined }
    try {
      const value = await this.#options.next()
      if (value !== undefined) return { done: false, value }
    } catch (error) {
      this.#end('left')
      throw error
    }
    this.#end('done')
    return { done: true, value: undefined }
  }

  async return(): Promise<IteratorResult<Value, undefined>> {
    this.#end('left')
    return { done: true, value: undefined }
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  #end(state: 'done' | 'left'): void {
    if (this.#state !== 'open') return
    this.#state = state
    this.#options.signal?.removeEventListener('abort', this.#giveUp)
    this.#options.leave()
  }
}
