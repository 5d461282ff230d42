// The server's side of TLS: the upgrade of a connection that asked for it by STARTTLS.
// Always: a connection is handed over only after its handshake, and with `verifyPeer` only if its certificate is of our
// authority, in its time and not revoked, or if it holds a preshared key. New files concern new connections only, and files
// that TLS cannot use change nothing.

import { constants } from 'node:crypto'
import type { Socket } from 'node:net'
import { createServer, type TLSSocket, type TlsOptions } from 'node:tls'
import {
  NbdTlsError,
  presharedKeyCiphers,
  readCredentials,
  type TlsCredentials,
  tlsReason,
} from '../wire/tls-credentials.ts'

export interface TlsServerOptions {
  /** Where the files lie. */
  readonly folder: string
  /** Clients with a certificate of ours only. */
  readonly verifyPeer: boolean
}

export class TlsServer {
  readonly #options: TlsServerOptions
  #settings: TlsOptions
  /** Of the files that are in use. */
  warnings: readonly string[]

  private constructor(options: TlsServerOptions, credentials: TlsCredentials) {
    this.#options = options
    this.#settings = settingsOf(credentials, options.verifyPeer)
    this.warnings = credentials.warnings
  }

  /** Throws NbdTlsError. */
  static async open(options: TlsServerOptions): Promise<TlsServer> {
    return new TlsServer(options, await readServerCredentials(options))
  }

  /** Reads the files again, for connections to come. Throws NbdTlsError, and then those that were read before stay in use. */
  async reload(): Promise<void> {
    const credentials = await readServerCredentials(this.#options)
    this.#settings = settingsOf(credentials, this.#options.verifyPeer)
    this.warnings = credentials.warnings
  }

  /**
   * Takes over a socket on which the client's handshake is due. Exactly one of the two is called, once; the caller has the
   * deadline, and destroys the socket when it is over or after `onFailure`.
   */
  accept(socket: Socket, onSecured: (secured: TLSSocket) => void, onFailure: (reason: string) => void): void {
    // A server of its own for each connection (0.2 ms), which tells whose handshake has ended; its ticket keys die with it,
    // so that no session is resumed past a certificate that was revoked meanwhile. And a server it must be:
    // `new TLSSocket(socket, { isServer: true, requestCert, rejectUnauthorized })` takes certificates of any authority.
    const server = createServer(this.#settings)
    let isPending = true
    const settle = (act: () => void): void => {
      if (isPending) act()
      isPending = false
    }
    // A half-open socket would not tell of a client that leaves in the midst of its handshake.
    const { allowHalfOpen } = socket
    socket.allowHalfOpen = false
    server.on('secureConnection', (secured) => {
      secured.allowHalfOpen = allowHalfOpen
      settle(() => onSecured(secured))
    })
    server.on('tlsClientError', (error, failed) => {
      // Of a certificate that was refused, the error says only that the connection is gone.
      settle(() => onFailure(String(failed.authorizationError ?? tlsReason(error))))
    })
    server.emit('connection', socket)
  }
}

async function readServerCredentials({ folder, verifyPeer }: TlsServerOptions): Promise<TlsCredentials> {
  const credentials = await readCredentials(folder, 'server')
  const { own, authorities, keys, warnings } = credentials
  if (own === undefined && keys.size === 0) {
    throw new NbdTlsError(`${folder} has neither server-cert.pem and server-key.pem nor keys.psk`)
  }
  if (own === undefined || keys.size === 0) {
    if (verifyPeer && own !== undefined && authorities === undefined) throw noAuthority(folder)
    return credentials
  }
  if (!verifyPeer) {
    const open = `${folder} has certificates beside keys.psk, so that clients without a preshared key are let in too`
    return { ...credentials, warnings: [...warnings, open] }
  }
  if (authorities === undefined) throw noAuthority(folder)
  // Node takes a preshared key of TLS 1.3 for an unverified client. What is asked for is certificates.
  const aside = `${folder} has certificates beside keys.psk, which is left aside: clients are verified by certificates`
  return { ...credentials, keys: new Map(), warnings: [...warnings, aside] }
}

function noAuthority(folder: string): NbdTlsError {
  return new NbdTlsError(`${folder} has no ca-cert.pem, which is to verify the certificates of clients`)
}

function settingsOf({ own, authorities, revocations, keys }: TlsCredentials, verifyPeer: boolean): TlsOptions {
  const settings: TlsOptions = {
    minVersion: 'TLSv1.2',
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
    ...own,
  }
  if (own !== undefined && verifyPeer) {
    Object.assign(settings, { ca: authorities!, requestCert: true, rejectUnauthorized: true })
    if (revocations !== undefined) settings.crl = revocations
  }
  if (keys.size > 0) {
    settings.ciphers = presharedKeyCiphers
    settings.dhparam = 'auto'
    settings.pskCallback = (_socket, user) => keys.get(user) ?? null
  }
  return settings
}
