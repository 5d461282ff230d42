// TLS 1.3 between two sites, over any stream. Both prove their keys; pins decide who is who, never a CA, a name or a date.
// A stream is handed over only after the peer's key was checked, so no byte goes to anybody else.

import type { KeyObject } from 'node:crypto'
import type { Duplex } from 'node:stream'
import { connect, createServer, type TLSSocket } from 'node:tls'
import { dismissalTexts, type NewcomerLimits, Newcomers } from '../entrance/newcomers.ts'
import { sourceOfAddress } from '../entrance/source.ts'
import { fingerprintOf, type Identity, PeerError } from './identity.ts'

export const handshakeDeadlineMs = 10_000
export const linkProtocol = 'vmstore-link/1'
export const pairProtocol = 'vmstore-pair/1'
const exportedBytes = 32

export interface SecuredStream {
  readonly stream: Duplex
  /** Of the peer's key, which it proved to hold. */
  readonly fingerprint: string
  readonly alpn: string
  /** 32 bytes that only the two ends of this very session know. */
  exportKeyingMaterial(label: string): Buffer
}

export interface SecureClientOptions {
  readonly identity: Identity
  /** The only key that is spoken to, */
  readonly expectFingerprint: string
  /** and the one that its holder has said, signed with it, to have next. */
  readonly nextFingerprint?: string | undefined
  readonly alpn: string
  readonly signal: AbortSignal
  readonly deadlineMs?: number
}

const versions = { minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3' } as const

/** Rejects with PeerError, or with `signal.reason`; the stream is then closed. */
export function secureClient(stream: Duplex, options: SecureClientOptions): Promise<SecuredStream> {
  const { identity, expectFingerprint, nextFingerprint, alpn, signal, deadlineMs = handshakeDeadlineMs } = options
  stream.on('error', () => {}) // TLS reports it.
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      stream.destroy()
      reject(signal.reason)
      return
    }
    const socket = connect({
      socket: stream,
      ...versions,
      key: identity.privateKeyPem,
      cert: identity.certificatePem,
      ALPNProtocols: [alpn],
      // The pin below decides; a CA would say nothing about a self-signed certificate.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
    })
    const settle = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      socket.off('close', onClose)
    }
    const fail = (error: unknown) => {
      settle()
      socket.destroy()
      stream.destroy()
      reject(error)
    }
    const onAbort = () => fail(signal.reason)
    const onClose = () => fail(new PeerError('handshake-failed', 'the peer closed the connection during the handshake'))
    const timer = setTimeout(() => {
      fail(new PeerError('handshake-failed', `the peer did not finish the handshake within ${deadlineMs / 1000} s`))
    }, deadlineMs)
    signal.addEventListener('abort', onAbort, { once: true })
    socket.on('close', onClose)
    socket.on('error', (error) => {
      fail(new PeerError('handshake-failed', `the handshake with the peer failed: ${error.message}`, { cause: error }))
    })
    socket.on('secureConnect', () => {
      const secured = examined(socket)
      const isPinned = [expectFingerprint, nextFingerprint].includes(secured?.fingerprint)
      if (!secured || !isPinned) {
        fail(
          new PeerError(
            'peer-wrong-key',
            `the peer shows another key than the one that is pinned: ${secured?.fingerprint}`,
          ),
        )
      } else if (secured.alpn !== alpn) {
        fail(new PeerError('handshake-failed', `the peer does not speak ${alpn}`))
      } else {
        settle()
        // 'secureConnect' may come with bytes behind it; whoever takes the stream reads them.
        resolve(secured)
      }
    })
  })
}

export interface SecureServerOptions {
  readonly identity: Identity
  /** Of those whose link streams are taken. Asked at each stream. */
  isPaired(fingerprint: string): boolean
  /** `known`: to be told when the peer has said what the stream is for. Until then it holds a newcomer's place. */
  onLink(secured: SecuredStream, known: () => void): void
  /**
   * A peer that is not known yet and has to prove an invitation; `known`: to be told when it has. Without it, or when it
   * says no, nobody pairs.
   */
  onPair?(secured: SecuredStream, known: () => void): void
  /** Why a stream was closed, once each, and who was at its other end, where the transport tells. */
  onRefused?(why: string, client: string | undefined): void
  readonly limits?: Partial<NewcomerLimits>
}

/** Takes the streams of a transport's listener. Always: a stream holds a newcomer's place until its peer is known, or it is closed. */
export class SecureServer {
  readonly newcomers: Newcomers
  readonly #options: SecureServerOptions
  /** Those of newcomers. */
  readonly #pending = new Set<Duplex>()
  #closed = false

  constructor(options: SecureServerOptions) {
    this.#options = options
    this.newcomers = new Newcomers(options.limits)
  }

  accept(stream: Duplex): void {
    stream.on('error', () => {}) // TLS reports it.
    const { identity } = this.#options
    const { address, client } = whoIs(stream)
    const refuse = (why: string) => {
      const isFirst = this.#pending.delete(stream)
      stream.destroy()
      place.leave()
      if (isFirst) this.#options.onRefused?.(why, client)
    }
    const known = () => {
      this.#pending.delete(stream)
      place.leave()
    }
    this.#pending.add(stream)
    const place = this.newcomers.enter({
      source: sourceOfAddress(address),
      hasSpoken: () => hasSpoken(stream),
      dismiss: (why) => refuse(dismissalTexts[why]),
    })
    if (this.#closed) {
      refuse('this site is stopping')
      return
    }
    let isTaken = false
    // Whoever has taken the stream tells of its end.
    stream.once('close', () => (isTaken ? known() : refuse('a client left in the middle of its handshake')))

    // A server of its own for each stream: its ticket keys die with it, so no session is ever resumed, and each stream proves
    // its keys. (`new TLSSocket(…, { isServer: true })` would take certificates that were not checked.)
    const server = createServer({
      ...versions,
      key: identity.privateKeyPem,
      cert: identity.certificatePem,
      ALPNProtocols: [linkProtocol, pairProtocol],
      requestCert: true,
      // The pin decides; that the client holds the key of its certificate is checked by TLS in any case.
      rejectUnauthorized: false,
      handshakeTimeout: this.newcomers.limits.negotiationMs,
    })
    server.on('tlsClientError', (error) => refuse(`a handshake failed: ${error.message}`))
    server.on('secureConnection', (socket: TLSSocket) => {
      socket.on('error', () => {}) // Whoever takes the stream hears 'close'.
      const secured = examined(socket)
      const taker = this.#takerOf(secured)
      if (typeof taker === 'string' || !secured) {
        socket.destroy()
        refuse(String(taker))
      } else if (this.#pending.has(stream)) {
        isTaken = true
        taker(secured, known)
      }
    })
    server.emit('connection', stream)
  }

  /** Streams of those that are known live on. */
  close(): void {
    this.#closed = true
    for (const stream of [...this.#pending]) stream.destroy()
  }

  /** Or why nobody takes it. */
  #takerOf(secured: SecuredStream | undefined): SecureServerOptions['onLink'] | string {
    const { isPaired, onLink, onPair } = this.#options
    if (!secured) return 'a client showed no certificate'
    if (secured.alpn === linkProtocol) {
      return isPaired(secured.fingerprint) ? onLink : `an unpaired key asked for a link: ${secured.fingerprint}`
    }
    return secured.alpn === pairProtocol && onPair ? onPair : 'a client speaks none of our protocols'
  }
}

/** Where a stream comes from, if it is a socket, or says so as one does. */
function whoIs(stream: Duplex): { readonly address: string | undefined; readonly client: string | undefined } {
  const { remoteAddress: address, remotePort: port } = stream as { remoteAddress?: unknown; remotePort?: unknown }
  if (typeof address !== 'string') return { address: undefined, client: undefined }
  return { address, client: `${address}:${port}` }
}

/** A stream that does not tell counts as one that has. */
function hasSpoken(stream: Duplex): boolean {
  const { bytesRead } = stream as { bytesRead?: unknown }
  return typeof bytesRead !== 'number' || bytesRead > 0
}

/** undefined: the peer showed no certificate. */
function examined(socket: TLSSocket): SecuredStream | undefined {
  const certificate = socket.getPeerX509Certificate()
  if (!certificate || socket.getProtocol() !== 'TLSv1.3') return undefined
  let publicKey: KeyObject
  try {
    publicKey = certificate.publicKey
  } catch {
    return undefined // A kind of key that is not known here.
  }
  return {
    stream: socket,
    fingerprint: fingerprintOf(publicKey),
    alpn: socket.alpnProtocol || '',
    exportKeyingMaterial: (label) => socket.exportKeyingMaterial(exportedBytes, label, Buffer.alloc(0)),
  }
}
