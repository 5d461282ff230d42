// The streams of a site: drivers bring them, and they are secured with the site's key. Nothing else of the daemon has a
// driver's streams in its hands: who wants a lane says in plain data whom to dial, where and for what.

import type { Duplex } from 'node:stream'
import { LinkError } from '../link/channel.ts'
import type { LaneTarget } from '../link/lane/lane.ts'
import type { Identity } from '../peer/identity.ts'
import { linkProtocol, secureClient } from '../peer/secure.ts'
import { setTcpUserTimeout } from '../system/sockets.ts'
import type { Listener, Log, TransportOptions } from '../transport/index.ts'
import type { Drivers } from './drivers.ts'

export interface StreamsOptions {
  /** Of this site, now. */
  identity(): Identity
  readonly drivers: Drivers
  readonly log: Log
  readonly settings: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  /** How long a host may take to acknowledge what was sent. 0: as long as the system lets it. */
  readonly deadHostMs: number
  /** What a peer is called here. */
  name(peerId: string): string
  /** The key that a peer has said it will have; undefined: it has said nothing. */
  nextKey(peerId: string): string | undefined
  /** A peer shows its next key: what is on record of it follows. */
  follow(next: string): Promise<void>
}

export class Streams {
  readonly #options: StreamsOptions
  readonly #closing = new AbortController()

  constructor(options: StreamsOptions) {
    this.#options = options
  }

  listen(url: URL, accept: (stream: Duplex) => void): Promise<Listener> {
    return this.#options.drivers.stream(url).listen(url, accept, this.#transportOptions(url, 'control'))
  }

  /** A bare stream. */
  connect(url: URL, purpose: TransportOptions['purpose'], signal: AbortSignal): Promise<Duplex> {
    const options = this.#transportOptions(url, purpose)
    return this.#options.drivers
      .stream(url)
      .connect(url, { ...options, signal: AbortSignal.any([signal, options.signal]) })
  }

  /** A stream to that peer and to nobody else. Rejects with LinkError `unreachable`, or with the signal's reason. */
  async dial({ peerId, address, purpose }: LaneTarget, signal: AbortSignal): Promise<Duplex> {
    try {
      const bare = await this.connect(new URL(address), purpose, signal)
      const identity = this.#options.identity()
      const nextFingerprint = this.#options.nextKey(peerId)
      const expected = { expectFingerprint: peerId, nextFingerprint }
      const secured = await secureClient(bare, { identity, ...expected, alpn: linkProtocol, signal })
      if (secured.fingerprint === peerId) return secured.stream
      secured.stream.destroy()
      await this.#options.follow(secured.fingerprint)
      throw new Error('it has renewed its key, and is known by the new one from now on: try again')
    } catch (error) {
      signal.throwIfAborted()
      const who = this.#options.name(peerId)
      throw new LinkError('unreachable', `${who} at ${address}: ${(error as Error).message}`, { cause: error })
    }
  }

  /** Gives up what is being connected. */
  close(): void {
    this.#closing.abort(new Error('this site is stopping'))
  }

  /** A host that is gone is noticed whatever a lane waits for, and before there is one. */
  #tune(fd: number): void {
    const { deadHostMs, log } = this.#options
    if (deadHostMs === 0) return
    try {
      setTcpUserTimeout(fd, deadHostMs)
    } catch (error) {
      // A socket of another kind, or one that is closed by now.
      log.debug({ err: error }, 'a stream of a transport has no such timeout')
    }
  }

  #transportOptions(url: URL, purpose: TransportOptions['purpose']): TransportOptions {
    const scheme = url.protocol.replace(/:$/, '')
    return {
      signal: this.#closing.signal,
      log: this.#options.log,
      purpose,
      settings: this.#options.settings[scheme] ?? {},
      tune: (fd) => this.#tune(fd),
    }
  }
}
