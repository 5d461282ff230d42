// Puts the parts of a link together: a transport's streams, secured with the site's key, handed to the hub or, for a site
// that is not known yet, to the inviter.

import type { Logger } from 'pino'
import { systemTimers } from '../block/clock.ts'
import { Refusal } from '../disk/refusal.ts'
import type { NewcomerLimits, Newcomers } from '../entrance/newcomers.ts'
import type { PeerHandlers } from '../link/channel.ts'
import { LinkError } from '../link/channel.ts'
import { StreamLanes } from '../link/lane/stream-lanes.ts'
import { LinkHub } from '../link/peers/hub.ts'
import { type Identity, PeerError } from '../peer/identity.ts'
import { decodeToken, Inviter, join } from '../peer/pairing.ts'
import { SecureServer } from '../peer/secure.ts'
import type { PeerRecord } from '../store/records.ts'
import type { Listener } from '../transport/index.ts'
import type { Drivers } from './drivers.ts'
import type { PeerBook } from './peer-book.ts'
import type { PeerGuard } from './peer-guard.ts'
import { Streams } from './streams.ts'

export interface LinksOptions {
  /** Of this site, now: its key may be renewed while it runs. */
  identity(): Identity
  /** What this site calls itself to others. */
  readonly siteName: string
  readonly book: PeerBook
  readonly drivers: Drivers
  readonly handlers: PeerHandlers
  /** Keeps out peers that send junk. */
  readonly guard: Pick<PeerGuard, 'junk' | 'isKeptOut'>
  readonly log: Logger
  readonly settings: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  /** At the address where peers dial. */
  readonly newcomers: NewcomerLimits
  /** How long a peer's host may take to acknowledge what was sent. 0: as long as the system lets it. */
  readonly deadHostMs: number
  /** A peer shows the key that it has said it will have: what is on record of it follows. */
  follow(next: string): Promise<void>
}

const keptOut = 'the peer has broken the protocol too often in this hour: it is kept out (vmstore peer show)'

export class Links {
  readonly hub: LinkHub
  readonly #options: LinksOptions
  readonly #inviter: Inviter
  readonly #secure: SecureServer
  readonly #streams: Streams
  #listener: Listener | undefined

  constructor(options: LinksOptions) {
    this.#options = options
    const { book, log, guard } = options
    this.#streams = new Streams({
      ...options,
      name: (peerId) => book.get(peerId)?.name ?? peerId,
      nextKey: (peerId) => book.get(peerId)?.next ?? undefined,
    })
    const lanes = new StreamLanes({
      connect: async (target, signal) => {
        if (guard.isKeptOut(target.peerId)) throw new LinkError('unreachable', keptOut)
        return this.#streams.dial(target, signal)
      },
      onJunk: (peerId, bytes) => guard.junk(peerId, bytes),
      handlers: options.handlers,
      log,
      clock: systemTimers,
    })
    this.hub = new LinkHub({
      ownId: options.identity().siteId,
      lanes,
      address: (peerId) => book.get(peerId)?.address ?? undefined,
      log,
    })
    this.#inviter = new Inviter({
      get identity() {
        return options.identity()
      },
      admit: async (peer, invitation) => {
        try {
          await book.admit(peer, invitation.name)
        } catch (error) {
          throw error instanceof Refusal ? new PeerError(error.code, error.message) : error
        }
      },
    })
    this.#secure = new SecureServer({
      get identity() {
        return options.identity()
      },
      isPaired: (fingerprint) => book.has(fingerprint) || book.renewing(fingerprint) !== undefined,
      onLink: ({ fingerprint, stream }, known) => {
        const take = () => {
          const lane = lanes.accept(fingerprint, stream)
          lane.opened.then(known, () => {})
          this.hub.accept(fingerprint, lane)
        }
        if (book.has(fingerprint)) return take()
        options.follow(fingerprint).then(take, (error: Error) => {
          log.warn({ reason: error.message }, 'a peer shows its next key, and could not be followed yet')
          stream.destroy()
        })
      },
      onPair: (secured, known) =>
        void this.#inviter.serve(secured, known).then(
          (peer) => log.info({ site: peer.siteId }, 'a site joined'),
          (error: Error) => log.warn({ reason: error.message }, 'a site was not let in'),
        ),
      onRefused: (reason, client) => log.warn({ client, reason }, 'a stream on the peer address was closed'),
      limits: options.newcomers,
    })
  }

  /** Where peers dial, if this site listens. */
  get address(): string | undefined {
    return this.#listener?.address.href
  }

  /** Those at the address where peers dial that are not known yet. */
  get newcomers(): Newcomers {
    return this.#secure.newcomers
  }

  async listen(address: string): Promise<void> {
    const url = parseAddress(address)
    this.#listener = await this.#streams.listen(url, (stream) => this.#secure.accept(stream))
  }

  invite(options: { address?: string | undefined; name?: string | undefined }): {
    token: string
    address: string
    expiresAt: number
  } {
    const address = options.address === undefined ? this.#advertised() : parseAddress(options.address).href
    if (options.name !== undefined) this.#options.book.checkName(options.name, undefined)
    const invitation = this.#inviter.invite({ address, name: this.#options.siteName, peerName: options.name })
    return { ...invitation, address }
  }

  async join(text: string, name: string | undefined, signal: AbortSignal): Promise<PeerRecord> {
    const { siteName, book } = this.#options
    const identity = this.#options.identity()
    const token = decodeToken(text) // Whether it still holds the inviter says, by its own clock.
    if (name !== undefined) book.checkName(name, token.fingerprint)
    const inviter = await join({
      token,
      identity,
      name: siteName,
      address: this.#listener && !isWildcard(this.#listener.address) ? this.#listener.address.href : undefined,
      signal,
      connect: (address, connectSignal) => this.#streams.connect(address, 'control', connectSignal),
    })
    return book.admit(inviter, name)
  }

  async close(): Promise<void> {
    this.#streams.close()
    await this.#listener?.close()
    this.#secure.close()
    await this.hub.close()
  }

  /** The address in an invitation, when the operator gives none. */
  #advertised(): string {
    if (!this.#listener) {
      throw new Refusal('no-peer-address', 'this site does not listen for peers', {
        next: 'Start it with --peer tcp://HOST:PORT, or have the other site invite this one.',
      })
    }
    if (isWildcard(this.#listener.address)) {
      throw new Refusal(
        'no-peer-address',
        `this site listens for peers at ${this.#listener.address.href}, which is no address to dial`,
        {
          next: 'Give the address at which the other site reaches this one: vmstore peer invite --address tcp://HOST:PORT.',
        },
      )
    }
    return this.#listener.address.href
  }
}

/** @throws Refusal `bad-address` */
export function parseAddress(address: string): URL {
  if (URL.canParse(address)) return new URL(address)
  throw new Refusal('bad-address', `${address} is no address like tcp://HOST:PORT`, { exit: 2 })
}

function isWildcard(address: URL): boolean {
  return address.hostname === '0.0.0.0' || address.hostname === '[::]'
}
