// Brings a client to a server: connects the URI's address and runs a negotiation under one deadline.
// Always: failure, deadline and abort destroy the socket, and only what `act` returned outlives this.

import { connect as connectSocket, type Socket } from 'node:net'
import { tlsReason } from '../wire/tls-credentials.ts'
import type { NbdTlsOptions, NbdUri } from '../wire/uri.ts'
import { NbdConnectionError } from './errors.ts'
import { asConnectionError, ClientNegotiation } from './negotiation.ts'
import { secureClient } from './tls.ts'

export interface NbdConnectOptions {
  /** Default true: asked for, and done without if the server has none. */
  readonly structuredReplies?: boolean
  /** Default false. Asked for first, for requests above 4 GiB; without it, or where the server has none, as above. */
  readonly extendedHeaders?: boolean
  /** Metadata contexts for blockStatus(); those that the server lacks are missing from `contexts`. */
  readonly metaContexts?: readonly string[]
  /** For `nbds://`, over what the URI says. */
  readonly tls?: NbdTlsOptions
  readonly signal?: AbortSignal
  /** Connection, TLS and negotiation together. Default 10 s. */
  readonly connectTimeoutMs?: number
  /** The longest silence of a server that owes replies. Default 60 s. */
  readonly requestTimeoutMs?: number
}

type Act<T> = (socket: Socket, negotiation: ClientNegotiation) => Promise<T>

/** Connects, with TLS for `nbds://`, runs `act` after the greeting, and breaks off on failure, timeout or abort. */
export function withNegotiation<T>(uri: NbdUri, options: NbdConnectOptions, act: Act<T>): Promise<T> {
  const { address } = uri
  const where = address.transport === 'unix' ? { path: address.path } : { host: address.host, port: address.port }
  return negotiate(() => connectSocket({ ...where, noDelay: true }), uri.tls ? uri : undefined, options, act)
}

/** As withNegotiation, over a connection that is there, in the clear. */
export function withNegotiationOver<T>(connected: Socket, options: NbdConnectOptions, act: Act<T>): Promise<T> {
  return negotiate(() => connected, undefined, options, act)
}

/** `secureFor`: its server is asked for TLS. */
async function negotiate<T>(
  connect: () => Socket,
  secureFor: NbdUri | undefined,
  options: NbdConnectOptions,
  act: Act<T>,
): Promise<T> {
  const { signal, connectTimeoutMs = 10_000 } = options
  signal?.throwIfAborted()
  let socket = connect()
  let negotiation = new ClientNegotiation(socket)
  const broken = new AbortController()
  const fail = (error: Error): void => {
    broken.abort(error)
    negotiation.fail(error)
  }
  const onError = (error: Error): void => fail(new NbdConnectionError(tlsReason(error), { cause: error }))
  const onAbort = (): void => fail(signal?.reason as Error)
  socket.on('error', onError)
  signal?.addEventListener('abort', onAbort, { once: true })
  const slow = new NbdConnectionError(`the server did not finish negotiation within ${connectTimeoutMs} ms`)
  const timer = setTimeout(() => fail(slow), connectTimeoutMs)
  try {
    await negotiation.greet()
    if (secureFor) {
      await negotiation.startTls()
      socket = await secureClient(socket, secureFor, { ...secureFor.tlsOptions, ...options.tls }, broken.signal)
      socket.on('error', onError)
      negotiation = negotiation.continuedOver(socket)
    }
    return await act(socket, negotiation)
  } catch (error) {
    socket.destroy()
    throw asConnectionError(error)
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }
}
