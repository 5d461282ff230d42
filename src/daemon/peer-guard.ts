// What peers have under way here, against what each may: requests that are open, questions for digests that are worked at; and
// how often one wanted more than it may have, of anything.
//
// What always holds: a request counts until its handler has ended. What is over the limit of requests is refused; a question for
// digests over its limit waits for its turn, in order.

import type { Piece, Urgency } from '../block/units.ts'
import type { CountView } from '../control/types.ts'
import { aborted, type FetchRequest, type PeerHandlers, PeerRefusal } from '../link/channel.ts'
import type { PeerRights } from '../migration/peer-rights.ts'
import type { PeerLimits } from '../store/records.ts'

const hashingMethod = 'digests'

export class PeerGuard {
  readonly #limits: (peerId: string) => PeerLimits
  readonly #peers = new Map<string, Use>()

  /** `limits`: of a peer, as they are now. */
  constructor(limits: (peerId: string) => PeerLimits) {
    this.#limits = limits
  }

  /** Of a peer, as they are now. */
  useOf(peerId: string): Pick<PeerLimits, 'calls' | 'digests'> {
    const { calls = 0, digests = 0 } = this.#peers.get(peerId) ?? {}
    return { calls, digests }
  }

  /** null: never. */
  reachedBy(peerId: string, limit: keyof PeerLimits): CountView | null {
    return this.#peers.get(peerId)?.reached.get(limit) ?? null
  }

  /** For the rights of a peer: it wanted more. */
  reached(peerId: string): PeerRights['reached'] {
    return (limit) => this.#use(peerId).count(limit)
  }

  forget(peerId: string): void {
    this.#peers.delete(peerId)
  }

  /** What is answered, as far as the peer may ask it. */
  guarding(handlers: PeerHandlers): PeerHandlers {
    return {
      call: async (peerId, method, params, signal) => {
        const use = this.#use(peerId)
        using _call = this.#begin(peerId, use)
        if (method !== hashingMethod) return await handlers.call(peerId, method, params, signal)
        using _turn = await use.enterDigests(() => this.#limits(peerId).digests, signal)
        return await handlers.call(peerId, method, params, signal)
      },
      fetch: (peerId, request, urgency, signal) => this.#fetch(handlers, peerId, request, urgency, signal),
    }
  }

  async *#fetch(
    handlers: PeerHandlers,
    peerId: string,
    request: FetchRequest,
    urgency: Urgency,
    signal: AbortSignal,
  ): AsyncGenerator<Piece> {
    using _call = this.#begin(peerId, this.#use(peerId))
    yield* handlers.fetch(peerId, request, urgency, signal)
  }

  /** @throws PeerRefusal */
  #begin(peerId: string, use: Use): Disposable {
    const { calls } = this.#limits(peerId)
    if (use.calls >= calls) {
      use.count('calls')
      throw new PeerRefusal('over-limit', `that site works at ${calls} requests of this one, and at no more at once`)
    }
    use.calls++
    return { [Symbol.dispose]: () => use.calls-- }
  }

  #use(peerId: string): Use {
    const use = this.#peers.get(peerId) ?? new Use()
    this.#peers.set(peerId, use)
    return use
  }
}

/** By one peer. */
class Use {
  calls = 0
  digests = 0
  readonly reached = new Map<keyof PeerLimits, CountView>()
  readonly #waiting: (() => void)[] = []

  count(limit: keyof PeerLimits): void {
    const count = (this.reached.get(limit)?.count ?? 0) + 1
    this.reached.set(limit, { count, last: new Date().toISOString() })
  }

  /** Resolves to a turn. Rejects when `signal` aborts before. */
  async enterDigests(most: () => number, signal: AbortSignal): Promise<Disposable> {
    if (signal.aborted) throw aborted(signal)
    if (this.digests >= most()) {
      this.count('digests')
      while (this.digests >= most()) await this.#turn(signal)
    }
    this.digests++
    return {
      [Symbol.dispose]: () => {
        this.digests--
        this.#waiting.shift()?.()
      },
    }
  }

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = () => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      }
      const onAbort = () => {
        const index = this.#waiting.indexOf(go)
        if (index >= 0) this.#waiting.splice(index, 1)
        reject(aborted(signal))
      }
      signal.addEventListener('abort', onAbort, { once: true })
      this.#waiting.push(go)
    })
  }
}
