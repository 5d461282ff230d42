// The client's side of TLS: what it shows and whom it believes, and the upgrade of a connection on which the server has
// granted STARTTLS.
// Always: unless the caller said otherwise in so many words, what comes back is a connection to a server that proved itself:
// by a certificate of the authorities for the name that was called, or by the preshared key, and never by one for the other.

import { isIP, type Socket } from 'node:net'
import { userInfo } from 'node:os'
import { type ConnectionOptions, checkServerIdentity, connect, type TLSSocket } from 'node:tls'
import {
  NbdTlsError,
  onlyPresharedKeyCiphers,
  readCredentials,
  readPresharedKeys,
  tlsReason,
} from '../wire/tls-credentials.ts'
import type { NbdTlsOptions, NbdUri } from '../wire/uri.ts'
import { NbdConnectionError } from './errors.ts'

/**
 * The TLS handshake on a connection to `uri`. Throws NbdConnectionError, or the reason of `signal`; the socket is then the
 * caller's to destroy.
 */
export async function secureClient(
  socket: Socket,
  uri: NbdUri,
  options: NbdTlsOptions,
  signal: AbortSignal,
): Promise<TLSSocket> {
  const settings = await settingsOf(uri, options)
  signal.throwIfAborted()
  const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>()
  const secured = connect({ ...settings, socket })
  const onAbort = (): void => reject(signal.reason as Error)
  const onError = (error: Error): void =>
    reject(new NbdConnectionError(`the TLS handshake failed: ${tlsReason(error)}`, { cause: error }))
  const onClose = (): void => reject(new NbdConnectionError('the server hung up during the TLS handshake'))
  signal.addEventListener('abort', onAbort, { once: true })
  secured.once('error', onError)
  secured.once('close', onClose)
  secured.once('secureConnect', () => resolve(secured))
  try {
    return await promise
  } catch (error) {
    secured.on('error', () => {}) // What comes after the first failure tells nothing more.
    throw error
  } finally {
    signal.removeEventListener('abort', onAbort)
    secured.off('error', onError)
    secured.off('close', onClose)
  }
}

async function settingsOf(uri: NbdUri, options: NbdTlsOptions): Promise<ConnectionOptions> {
  try {
    if (options.pskFile !== undefined) return presharedKey(await readPresharedKeys(options.pskFile), options)
    if (options.certificates === undefined) return verification(uri, options)
    const { own, authorities, revocations, keys } = await readCredentials(options.certificates, 'client')
    if (own === undefined && authorities === undefined && keys.size > 0) return presharedKey(keys, options)
    if (authorities === undefined && options.verifyPeer !== false) {
      throw new NbdTlsError(`${options.certificates} has no ca-cert.pem, which is to verify the server`)
    }
    return {
      ...own,
      ...verification(uri, options),
      ...(authorities && { ca: authorities }),
      ...(revocations && { crl: revocations }),
    }
  } catch (error) {
    if (error instanceof NbdTlsError) throw new NbdConnectionError(error.message, { cause: error })
    throw error
  }
}

/** Over a Unix socket no name was called: unless one is given, any certificate of the authorities will do. */
function verification(uri: NbdUri, options: NbdTlsOptions): ConnectionOptions {
  const called = uri.address.transport === 'tcp' ? uri.address.host : undefined
  const name = options.hostname ?? called
  return {
    minVersion: 'TLSv1.2',
    rejectUnauthorized: options.verifyPeer ?? true,
    checkServerIdentity: (_host, certificate) =>
      name === undefined ? undefined : checkServerIdentity(name, certificate),
    ...(name === undefined || isIP(name) ? {} : { servername: name }),
  }
}

function presharedKey(keys: ReadonlyMap<string, Buffer>, options: NbdTlsOptions): ConnectionOptions {
  const username = options.username ?? userInfo().username
  const key = keys.get(username)
  if (key === undefined) throw new NbdTlsError(`there is no preshared key of the user ${username}`)
  return {
    minVersion: 'TLSv1.2',
    ciphers: onlyPresharedKeyCiphers,
    pskCallback: () => ({ identity: username, psk: key }),
    // No authority is believed, and no name: a certificate would prove something else than that the key is known.
    ca: [],
    checkServerIdentity: (_host, certificate) =>
      Object.keys(certificate).length === 0
        ? undefined
        : new Error('the server showed a certificate, and knows no key'),
  }
}
