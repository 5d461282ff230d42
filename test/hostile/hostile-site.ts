// A hostile peer: a small site made of our own parts (key, pairing, link, lanes) that says whatever a test wants. It is paired
// with its victim as any site is, dials it, and answers what it is asked with what the test has put there.
//
// What always holds: what it says is what a test says; of itself it answers only that it knows nothing. It is gone after the test.

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { systemTimers } from '../../src/block/clock.ts'
import type { Piece } from '../../src/block/units.ts'
import { type FetchRequest, type PeerChannel, type PeerHandlers, PeerRefusal } from '../../src/link/channel.ts'
import { StreamLanes } from '../../src/link/lane/stream-lanes.ts'
import { LinkHub } from '../../src/link/peers/hub.ts'
import { type Identity, loadIdentity } from '../../src/peer/identity.ts'
import { decodeToken, join } from '../../src/peer/pairing.ts'
import { linkProtocol, secureClient } from '../../src/peer/secure.ts'
import { afterwards, folder, type Site, until } from '../e2e/sites.ts'
import { quiet } from '../link/pair.ts'

/** No bound that anything promises: for how long a busy machine may take. */
const answerDeadlineMs = 60_000

export type Said = Readonly<Record<string, unknown>>
export type Reply = (params: Said, signal: AbortSignal) => unknown

export interface HostileOptions {
  /** What its victim calls it. */
  readonly name?: string
  /** A key that it has already. */
  readonly identity?: Identity
}

export class HostileSite {
  readonly name: string
  readonly identity: Identity
  readonly victim: Site
  /** What it was asked, in order. */
  readonly heard: { readonly method: string; readonly params: Said }[] = []
  /** What it answers, by the names of the calls. */
  readonly replies: Record<string, Reply> = { generations: () => ({ claims: [] }) }
  /** What it gives to whoever fetches. */
  pieces: (request: FetchRequest) => Iterable<Piece> | AsyncIterable<Piece> = () => {
    throw new PeerRefusal('no-right', 'nothing is to be had here')
  }
  readonly #hub: LinkHub
  /** By which it has pinned its victim. */
  readonly victimKey: string

  /** Paired, and connected by a lane of each purpose, which it keeps. */
  static async paired(victim: Site, options: HostileOptions = {}): Promise<HostileSite> {
    const { name = 'mallory', identity = await loadIdentity(folder()) } = options
    const { token: text } = await victim.control.invite({ name })
    const token = decodeToken(text)
    const signal = AbortSignal.timeout(answerDeadlineMs)
    const address = new URL(token.address)
    const inviter = await join({ token, identity, name, signal, connect: () => dialled(address) })
    const hostile = new HostileSite(victim, name, identity, inviter.fingerprint, address)
    await hostile.connected()
    return hostile
  }

  private constructor(victim: Site, name: string, identity: Identity, victimKey: string, address: URL) {
    this.victim = victim
    this.name = name
    this.identity = identity
    this.victimKey = victimKey
    const lanes = new StreamLanes({
      connect: async (_target, signal) => {
        const bare = await dialled(address)
        const secured = { identity, expectFingerprint: victimKey, alpn: linkProtocol, signal }
        return (await secureClient(bare, secured)).stream
      },
      handlers: this.#handlers,
      log: quiet,
      clock: systemTimers,
    })
    this.#hub = new LinkHub({ ownId: identity.siteId, lanes, address: () => address.href, log: quiet })
    const kept = this.#hub.keep(victimKey)
    afterwards(async () => {
      kept[Symbol.dispose]()
      await this.#hub.close()
    })
  }

  /** The victim knows that it can be reached. */
  async connected(): Promise<void> {
    const look = async () => (await this.victim.control.listPeers()).find((peer) => peer.fingerprint === this.key)
    await until(`${this.name} is connected`, async () => ((await look())?.connected ? true : undefined))
  }

  /** By which it is pinned at its victim. */
  get key(): string {
    return this.identity.fingerprint
  }

  get channel(): PeerChannel {
    return this.#hub.channel(this.victimKey)
  }

  /** What the victim answers. Rejects with its PeerRefusal, or with LinkError where the lane broke over it. */
  async call(method: string, params: object): Promise<Said> {
    const signal = AbortSignal.timeout(answerDeadlineMs)
    return (await this.channel.call(method, params, { signal })) as Said
  }

  /** The same: a refusal, or a lane that broke, is told as a word. */
  async outcome(method: string, params: object): Promise<string> {
    return this.call(method, params).then(
      (answer) => `answered ${JSON.stringify(answer)}`,
      (error: Error & { code?: string }) => `${error.code}: ${error.message}`,
    )
  }

  /** What the victim gives out of these runs. @throws PeerRefusal, LinkError */
  async fetch(request: FetchRequest): Promise<Piece[]> {
    const signal = AbortSignal.timeout(answerDeadlineMs)
    const pieces: Piece[] = []
    for await (const piece of this.channel.fetch(request, { urgency: 'demand', signal })) pieces.push(piece)
    return pieces
  }

  /** Resolves when it has been asked that. */
  async asked(method: string): Promise<Said> {
    return until(`${this.name} is asked ${method}`, () => this.heard.find((each) => each.method === method)?.params)
  }

  get #handlers(): PeerHandlers {
    const { heard, replies } = this
    const pieces = (request: FetchRequest) => this.pieces(request)
    return {
      async call(_peerId, method, params, signal) {
        heard.push({ method, params: params as Said })
        const reply = replies[method]
        if (!reply) throw new PeerRefusal('unknown-method', `nothing is known of ${method}`)
        return (await reply(params as Said, signal)) as object
      },
      async *fetch(_peerId, request) {
        yield* pieces(request)
      },
    }
  }
}

/** A reply that never comes. */
export function withheld(_params: Said, signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }))
}

async function dialled(address: URL): Promise<Socket> {
  const socket = connect({ host: address.hostname, port: Number(address.port), noDelay: true, allowHalfOpen: true })
  await once(socket, 'connect')
  return socket
}
