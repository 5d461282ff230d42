// Puts the parts of a link together: a transport's streams, secured with the site's key, handed to the hub or, for a site
// that is not known yet, to the inviter.

import type { Duplex } from 'node:stream'
import type { Logger } from 'pino'
import { Refusal } from '../disk/refusal.ts'
import { LinkError, type PeerHandlers, type Purpose } from '../link/channel.ts'
import { LinkHub } from '../link/peers/hub.ts'
import { type Identity, PeerError } from '../peer/identity.ts'
import { decodeToken, Inviter, join } from '../peer/pairing.ts'
import { linkProtocol, SecureServer, secureClient } from '../peer/secure.ts'
import type { PeerRecord } from '../store/records.ts'
import type { Listener, TransportOptions } from '../transport/index.ts'
import type { Drivers } from './drivers.ts'
import type { PeerBook } from './peer-book.ts'

export interface LinksOptions {
  readonly identity: Identity
  /** What this site calls itself to others. */
  readonly siteName: string
  readonly book: PeerBook
  readonly drivers: Drivers
  readonly handlers: PeerHandlers
  readonly log: Logger
  readonly settings: Readonly<Record<string, Readonly<Record<string, unknown>>>>
}

export class Links {
  readonly hub: LinkHub
  readonly #options: LinksOptions
  readonly #inviter: Inviter
  readonly #secure: SecureServer
  readonly #closing = new AbortController()
  #listener: Listener | undefined

  constructor(options: LinksOptions) {
    this.#options = options
    const { identity, book, log } = options
    this.hub = new LinkHub({
      ownId: identity.siteId,
      dial: (peerId, purpose, signal) => this.#dial(peerId, purpose, signal),
      hasAddress: (peerId) => book.get(peerId)?.address != null,
      handlers: options.handlers,
      log,
    })
    this.#inviter = new Inviter({
      identity,
      admit: async (peer, invitation) => {
        try {
          await book.admit(peer, invitation.name)
        } catch (error) {
          throw error instanceof Refusal ? new PeerError(error.code, error.message) : error
        }
      },
    })
    this.#secure = new SecureServer({
      identity,
      isPaired: (fingerprint) => book.has(fingerprint),
      onLink: ({ fingerprint, stream }) => this.hub.accept(fingerprint, stream),
      onPair: (secured) =>
        void this.#inviter.serve(secured).then(
          (peer) => log.info({ site: peer.siteId }, 'a site joined'),
          (error: Error) => log.warn({ reason: error.message }, 'a site was not let in'),
        ),
      onRefused: (reason) => log.warn({ reason }, 'a stream on the peer address was closed'),
    })
  }

  /** Where peers dial, if this site listens. */
  get address(): string | undefined {
    return this.#listener?.address.href
  }

  async listen(address: string): Promise<void> {
    const url = parseAddress(address)
    const driver = this.#options.drivers.stream(url)
    this.#listener = await driver.listen(
      url,
      (stream) => this.#secure.accept(stream),
      this.#transportOptions(url, 'control'),
    )
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
    const { identity, siteName, book } = this.#options
    const token = decodeToken(text) // Whether it still holds the inviter says, by its own clock.
    if (name !== undefined) book.checkName(name, token.fingerprint)
    const inviter = await join({
      token,
      identity,
      name: siteName,
      address: this.#listener && !isWildcard(this.#listener.address) ? this.#listener.address.href : undefined,
      signal,
      connect: (address, connectSignal) => this.#connect(address, 'control', connectSignal),
    })
    return book.admit(inviter, name)
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error('this site is stopping'))
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

  async #dial(peerId: string, purpose: Purpose, signal: AbortSignal): Promise<Duplex> {
    const peer = this.#options.book.get(peerId)
    if (!peer?.address) throw new LinkError('unreachable', 'no address of the peer is known: it has to dial this site')
    const url = parseAddress(peer.address)
    try {
      const raw = await this.#connect(url, purpose, signal)
      const secured = await secureClient(raw, {
        identity: this.#options.identity,
        expectFingerprint: peerId,
        alpn: linkProtocol,
        signal,
      })
      return secured.stream
    } catch (error) {
      signal.throwIfAborted()
      throw new LinkError('unreachable', `${peer.name} at ${peer.address}: ${(error as Error).message}`, {
        cause: error,
      })
    }
  }

  #connect(url: URL, purpose: Purpose, signal: AbortSignal): Promise<Duplex> {
    const options = this.#transportOptions(url, purpose)
    return this.#options.drivers
      .stream(url)
      .connect(url, { ...options, signal: AbortSignal.any([signal, options.signal]) })
  }

  #transportOptions(url: URL, purpose: Purpose): TransportOptions {
    const scheme = url.protocol.replace(/:$/, '')
    return {
      signal: this.#closing.signal,
      log: this.#options.log,
      purpose,
      settings: this.#options.settings[scheme] ?? {},
      tune: () => {},
    }
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
