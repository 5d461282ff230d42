// A store as moves use it: every request has a deadline by its size, is tried again while that helps, and is counted.
//
// What always holds:
// - A request ends. An attempt ends at its deadline even if the driver does not heed its signal, and attempts and waits between
//   them are bounded; then it fails with a sentence. Whoever asked decides whether to ask again later: nothing is lost by it.
// - What the store says for good (denied, missing, unfit) is not asked again.
// - Every attempt is counted, for the store's owner pays for every one.
// - A put that failed, or was given up, may still come true: tried again with `ifAbsent` it may find its own object (`exists`).

import type { Clock } from '../block/clock.ts'
import type { ObjectInfo, ObjectStore } from '../transport/index.ts'
import { RelayError } from './errors.ts'
import { codeOf } from './unfit.ts'

export interface StoreCounts {
  /** Attempts, those that failed too. A list is as many as it had pages of `pageKeys`. */
  readonly puts: number
  readonly gets: number
  readonly lists: number
  readonly deletes: number
  readonly failures: number
  readonly throttled: number
  /** Of bodies; up: those that were stored or may have been. */
  readonly bytesUp: number
  readonly bytesDown: number
}

export interface WeatherRules {
  /** For an answer's first byte, however small the request is. */
  readonly firstByteMs: number
  /** What the path carries at the very least, of all requests that run at once together. */
  readonly slowestBytesPerSecond: number
  readonly attempts: number
  readonly firstWaitMs: number
  readonly longestWaitMs: number
}

export const usualWeather: WeatherRules = {
  firstByteMs: 30_000,
  slowestBytesPerSecond: 128 * 1024,
  attempts: 8,
  firstWaitMs: 250,
  longestWaitMs: 30_000,
}

export interface WeatherParts {
  readonly store: ObjectStore
  /** Of the store, for sentences: its address, without secrets. */
  readonly address: string
  readonly clock: Pick<Clock, 'now' | 'sleep'>
  /** From 0 to 1: so that two sites that were refused at once do not come back at once. */
  readonly random: () => number
  readonly rules?: WeatherRules
  /** Told once an outage: the first failure that is tried again; and once when something is answered again. */
  readonly notice?: (change: WeatherChange) => void
}

export type WeatherChange =
  | { readonly is: 'bad'; readonly why: string; readonly isThrottled: boolean }
  | { readonly is: 'good'; readonly afterMs: number }

/** As many keys as S3 lists in one answer, for which it charges. */
const pageKeys = 1000
/** Stores that ask for more are asked again before. */
const longestRetryAfterMs = 60_000
/** What a get may bring, when nobody says: the largest of chunks, and what seals and pads it. */
const usualGetBytes = 4.25 * 1024 * 1024
const bytesOfDeletedKey = 100

const nothing: StoreCounts = {
  puts: 0,
  gets: 0,
  lists: 0,
  deletes: 0,
  failures: 0,
  throttled: 0,
  bytesUp: 0,
  bytesDown: 0,
}

type Request = 'put' | 'get' | 'list' | 'delete'

export class WeatheredStore implements ObjectStore {
  readonly #parts: WeatherParts
  readonly #rules: WeatherRules
  #counts: StoreCounts = nothing
  /** Bytes of the requests that run now: they share the path. */
  #bytesUnderWay = 0
  #badSince: number | undefined

  constructor(parts: WeatherParts) {
    this.#parts = parts
    this.#rules = parts.rules ?? usualWeather
  }

  get counts(): StoreCounts {
    return this.#counts
  }

  async put(
    key: string,
    body: Uint8Array,
    { ifAbsent = false, signal }: { ifAbsent?: boolean; signal?: AbortSignal } = {},
  ): Promise<'stored' | 'exists'> {
    return await this.#steadily('put', key, body.length, signal, (during) => {
      this.#add({ puts: 1, bytesUp: body.length })
      return this.#parts.store.put(key, body, { ifAbsent, signal: during })
    })
  }

  /** `expectedBytes`: what its deadline is reckoned from. */
  async get(
    key: string,
    { signal, expectedBytes = usualGetBytes }: { signal?: AbortSignal; expectedBytes?: number } = {},
  ): Promise<Uint8Array | undefined> {
    return await this.#steadily('get', key, expectedBytes, signal, async (during) => {
      this.#add({ gets: 1 })
      const found = await this.#parts.store.get(key, { signal: during })
      this.#add({ bytesDown: found?.length ?? 0 })
      return found
    })
  }

  /** A listing that breaks goes on behind the last key that it gave. */
  async *list(
    prefix: string,
    { after, signal }: { after?: string; signal?: AbortSignal } = {},
  ): AsyncIterable<ObjectInfo> {
    for (let last = after; ; ) {
      const page = await this.#steadily('list', prefix, 0, signal, (during) => {
        this.#add({ lists: 1 })
        return this.#page(prefix, last, during)
      })
      yield* page
      if (page.length < pageKeys) return
      last = page.at(-1)!.key
    }
  }

  async delete(keys: readonly string[], { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    for (let at = 0; at < keys.length; at += pageKeys) {
      const some = keys.slice(at, at + pageKeys)
      await this.#steadily('delete', some[0]!, some.length * bytesOfDeletedKey, signal, (during) => {
        this.#add({ deletes: 1 })
        return this.#parts.store.delete(some, { signal: during })
      })
    }
  }

  close(): Promise<void> {
    return this.#parts.store.close()
  }

  async #page(prefix: string, after: string | undefined, signal: AbortSignal): Promise<ObjectInfo[]> {
    const page: ObjectInfo[] = []
    for await (const info of this.#parts.store.list(prefix, { ...(after !== undefined && { after }), signal })) {
      page.push(info)
      if (page.length === pageKeys) break
    }
    return page
  }

  /** Tries until it is answered, or refused for good, or has been tried often enough. */
  async #steadily<Answer>(
    request: Request,
    key: string,
    bytes: number,
    signal: AbortSignal | undefined,
    attempt: (signal: AbortSignal) => Promise<Answer>,
  ): Promise<Answer> {
    const { attempts, firstWaitMs, longestWaitMs } = this.#rules
    for (let tried = 1; ; tried++) {
      signal?.throwIfAborted()
      try {
        const answer = await this.#withinDeadline(bytes, signal, attempt)
        this.#isGood()
        return answer
      } catch (error) {
        signal?.throwIfAborted()
        const code = codeOf(error)
        this.#add({ failures: 1, throttled: code === 'throttled' ? 1 : 0 })
        if (code === 'denied' || code === 'missing' || code === 'unfit') throw this.#final(code, request, key, error)
        if (tried >= attempts) throw this.#final('unavailable', request, key, error)
        this.#isBad(error, code === 'throttled')
        const backoffMs = Math.min(longestWaitMs, firstWaitMs * 2 ** (tried - 1)) * (0.5 + this.#parts.random() / 2)
        await this.#parts.clock.sleep(Math.max(backoffMs, retryAfterMsOf(error)), signal)
      }
    }
  }

  async #withinDeadline<Answer>(
    bytes: number,
    signal: AbortSignal | undefined,
    attempt: (signal: AbortSignal) => Promise<Answer>,
  ): Promise<Answer> {
    const { firstByteMs, slowestBytesPerSecond } = this.#rules
    this.#bytesUnderWay += bytes
    const deadlineMs = firstByteMs + (this.#bytesUnderWay / slowestBytesPerSecond) * 1000
    const over = new AbortController()
    const ended = new AbortController()
    const late = this.#parts.clock.sleep(deadlineMs, ended.signal).then(
      () => {
        const why = new RelayError('unavailable', `it was not answered within ${Math.ceil(deadlineMs / 1000)} s`)
        over.abort(why)
        throw why
      },
      () => undefined, // The attempt ended before.
    )
    const aborted = Promise.withResolvers<never>()
    const onAbort = (): void => {
      over.abort(signal?.reason)
      aborted.reject(signal?.reason)
    }
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      return (await Promise.race([attempt(over.signal), late, aborted.promise])) as Answer
    } finally {
      ended.abort()
      signal?.removeEventListener('abort', onAbort)
      late.catch(() => undefined)
      this.#bytesUnderWay -= bytes
    }
  }

  #final(
    code: 'denied' | 'missing' | 'unfit' | 'unavailable',
    request: Request,
    key: string,
    cause: unknown,
  ): RelayError {
    const { address } = this.#parts
    const why = (cause instanceof Error ? cause.message : String(cause)).replace(/\.$/, '')
    // Drivers mostly say at which store they were.
    const what = why.startsWith(address) ? why : `${address}: ${asked[request]} ${key}: ${why}`
    const sentences = {
      denied: `${what}. Give this site's account the rights that docs/relay.md names, and go on: nothing is lost`,
      missing: `${what}. Make the bucket or folder, or correct the address: nothing is lost`,
      unfit: why,
      unavailable: `${what}. It was tried ${this.#rules.attempts} times; nothing is lost, and it goes on when the store answers`,
    }
    return new RelayError(code, sentences[code], { cause })
  }

  #isBad(error: unknown, isThrottled: boolean): void {
    if (this.#badSince !== undefined) return
    this.#badSince = this.#parts.clock.now()
    this.#parts.notice?.({ is: 'bad', why: error instanceof Error ? error.message : String(error), isThrottled })
  }

  #isGood(): void {
    if (this.#badSince === undefined) return
    const afterMs = this.#parts.clock.now() - this.#badSince
    this.#badSince = undefined
    this.#parts.notice?.({ is: 'good', afterMs })
  }

  #add(more: Partial<StoreCounts>): void {
    this.#counts = sumOfCounts(this.#counts, { ...nothing, ...more })
  }
}

const asked = { put: 'storing', get: 'reading', list: 'listing', delete: 'deleting' } as const

export function sumOfCounts(one: StoreCounts, other: StoreCounts): StoreCounts {
  const names = Object.keys(nothing) as (keyof StoreCounts)[]
  return Object.fromEntries(names.map((name) => [name, one[name] + other[name]])) as unknown as StoreCounts
}

function retryAfterMsOf(error: unknown): number {
  const ms = error instanceof Error && 'retryAfterMs' in error ? error.retryAfterMs : undefined
  return typeof ms === 'number' && ms > 0 ? Math.min(ms, longestRetryAfterMs) : 0
}
