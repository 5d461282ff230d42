// An object store as a third party of the world: it answers late, loses requests and answers, does a request twice, does one that
// was given up long ago, shows late what it has, gives out what lies elsewhere or was cut, and may begin to keep versions.
// What it has outlives all sites.

import type { ObjectInfo, ObjectStore } from '../../src/transport/index.ts'
import type { SimProcess, World } from './world.ts'

/** What it does with conditional puts once it keeps versions: lets every one win, or those that come close together. */
export type Versions = 'all-win' | 'racers-win'

interface Held {
  readonly bytes: Buffer
  /** As the store counts what it does. */
  readonly since: number
}

/** A get within so many requests after a put may not see it, if the store is slow to show. */
const lateRequests = 6
/** Puts within so many requests are racers. */
const racingRequests = 4
const limitOfRetryAfterMs = 2000

export class SimStore {
  readonly #world: World
  readonly objects = new Map<string, Held>()
  up = true
  /** Of a hundred messages so many are lost, or come twice, as a fraction. */
  faultRate = 0
  /** It gives out other objects than those that were asked for, or cut ones. */
  lieRate = 0
  showsLate = false
  versions: Versions | undefined
  #requests = 0
  /** Answers to conditional puts that said that there are versions. */
  unfits = 0

  constructor(world: World) {
    this.#world = world
  }

  /** As a site reaches it: one attempt a request, as a driver's. */
  of(process: SimProcess): ObjectStore {
    return {
      put: (key, body, { ifAbsent = false, signal } = {}) => {
        const bytes = Buffer.from(body)
        return this.#ask(process, `put ${words(key)}`, signal, () => this.#put(key, bytes, ifAbsent))
      },
      get: (key, { signal } = {}) => this.#ask(process, `get ${words(key)}`, signal, () => this.#get(key)),
      list: (prefix, { after, signal } = {}) => this.#list(process, prefix, after, signal),
      delete: (keys, { signal } = {}) =>
        this.#ask(process, `delete ${keys.length}`, signal, () => {
          for (const key of keys) this.objects.delete(key)
        }),
      close: async () => {},
    }
  }

  async *#list(
    process: SimProcess,
    prefix: string,
    after: string | undefined,
    signal: AbortSignal | undefined,
  ): AsyncIterable<ObjectInfo> {
    yield* await this.#ask(process, `list ${words(prefix)}`, signal, () =>
      [...this.objects]
        .filter(([key, held]) => key.startsWith(prefix) && key > (after ?? '') && !this.#isHidden(held))
        .map(([key, { bytes }]) => ({ key, sizeBytes: bytes.length }))
        .sort((one, other) => (one.key < other.key ? -1 : 1)),
    )
  }

  /** A request on its way belongs to nobody: it arrives though its site has died, or has given it up. */
  async #ask<Answer>(
    process: SimProcess,
    what: string,
    signal: AbortSignal | undefined,
    run: () => Answer,
  ): Promise<Answer> {
    const { random } = this.#world
    signal?.throwIfAborted()
    const isLost = random.chance(this.faultRate)
    const isTwice = random.chance(this.faultRate)
    const answer = Promise.withResolvers<Answer>()
    answer.promise.catch(() => {})
    const arrive = async (): Promise<void> => {
      await this.#world.event(undefined, `store: ${what}`, { ready: () => this.up })
      this.#requests++
      try {
        answer.resolve(run())
      } catch (error) {
        answer.reject(error)
      }
    }
    let isSettled = false
    if (!isLost) {
      void arrive().then(() => {
        isSettled = true
      })
      if (isTwice) void arrive()
    }
    const isAborted = () => signal?.aborted ?? false
    const isRefused = random.chance(this.faultRate)
    await this.#world.event(process, `← ${what}`, { ready: () => isSettled || isLost || isAborted() })
    signal?.throwIfAborted()
    if (isLost || random.chance(this.faultRate)) throw failure('unavailable', `${what}: connection reset`)
    if (isRefused) throw failure('throttled', `${what}: SlowDown`, random.integer(limitOfRetryAfterMs))
    return await answer.promise
  }

  #put(key: string, bytes: Buffer, ifAbsent: boolean): 'stored' | 'exists' {
    const there = this.objects.get(key)
    if (ifAbsent && there && !this.#lets(there)) return 'exists'
    this.objects.set(key, { bytes, since: this.#requests })
    if (!ifAbsent || !this.versions) return 'stored'
    this.unfits++
    throw failure('unfit', 'the bucket keeps versions')
  }

  /** With versions: the condition says nothing. */
  #lets({ since }: Held): boolean {
    if (!this.versions) return false
    return this.versions === 'all-win' || this.#requests - since <= racingRequests || this.#world.random.chance(0.5)
  }

  #get(key: string): Buffer | undefined {
    const held = this.objects.get(key)
    const { random } = this.#world
    if (held && random.chance(this.lieRate)) {
      const other = random.pick([...this.objects.values()]).bytes
      return random.chance(0.5) ? Buffer.from(other) : held.bytes.subarray(0, random.integer(held.bytes.length))
    }
    return held && !this.#isHidden(held) ? Buffer.from(held.bytes) : undefined
  }

  #isHidden({ since }: Held): boolean {
    return this.showsLate && this.#requests - since <= lateRequests && this.#world.random.chance(0.5)
  }
}

/** Without what differs from run to run. */
function words(key: string): string {
  return key.replace(/^[0-9a-f]{40}\//, '').replace(/probe-.*/, 'probe')
}

function failure(code: string, message: string, retryAfterMs?: number): Error {
  return Object.assign(new Error(message), { name: 'TransportError', code, retryAfterMs })
}
