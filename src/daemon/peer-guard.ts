// What peers have under way here, against what each may: requests that are open, questions for digests that are worked at; what
// of an hour's bytes was junk; and how often one wanted more than it may have, of anything.
//
// What always holds: a request counts until its handler has ended. What is over the limit of requests is refused; a question for
// digests over its limit waits for its turn, in order.

import type { Piece, Urgency } from '../block/units.ts'
import type { CountView } from '../control/types.ts'
import { aborted, type FetchRequest, type PeerHandlers, PeerRefusal } from '../link/channel.ts'
import type { PeerRights } from '../migration/peer-rights.ts'
import type { PeerLimits } from '../store/records.ts'

const hashingMethod = 'digests'
const hourMs = 3_600_000

export class PeerGuard {
  readonly #limits: (peerId: string) => PeerLimits
  readonly #nowMs: () => number
  readonly #peers = new Map<string, Use>()

  /** `limits`: of a peer, as they are now. */
  constructor(limits: (peerId: string) => PeerLimits, nowMs: () => number = () => performance.now()) {
    this.#limits = limits
    this.#nowMs = nowMs
  }

  /** Of a peer, as they are now. */
  useOf(peerId: string): Pick<PeerLimits, 'calls' | 'digests' | 'junkBytes'> {
    const use = this.#peers.get(peerId)
    return { calls: use?.calls ?? 0, digests: use?.digests ?? 0, junkBytes: use?.junkBytes(this.#nowMs()) ?? 0 }
  }

  /** A connection of the peer broke the protocol. */
  junk(peerId: string, bytes: number): void {
    this.#use(peerId).junk(bytes, this.#nowMs())
  }

  /** Until the hour is over, or the operator lets it send more. Counted each time. */
  isKeptOut(peerId: string): boolean {
    const use = this.#peers.get(peerId)
    if (!use || use.junkBytes(this.#nowMs()) <= this.#limits(peerId).junkBytes) return false
    use.count('junkBytes')
    return true
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
  /** Of the hour that began then. */
  #junk = { sinceMs: 0, bytes: 0 }

  junk(bytes: number, nowMs: number): void {
    const sum = this.junkBytes(nowMs)
    this.#junk = { sinceMs: sum === 0 ? nowMs : this.#junk.sinceMs, bytes: sum + bytes }
  }

  junkBytes(nowMs: number): number {
    return nowMs - this.#junk.sinceMs < hourMs ? this.#junk.bytes : 0
  }

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
