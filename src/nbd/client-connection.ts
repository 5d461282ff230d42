// Brings a client to a server: connects the URI's address and runs a negotiation under one deadline.
// Always: failure, deadline and abort destroy the socket, and only what `act` returned outlives this.

import { connect as connectSocket, type Socket } from 'node:net'
import { NbdConnectionError } from './client-errors.ts'
import { asConnectionError, ClientNegotiation } from './client-negotiation.ts'
import type { NbdUri } from './uri.ts'

export interface NbdConnectOptions {
  /** Default true: asked for, and done without if the server has none. */
  readonly structuredReplies?: boolean
  /** Default false. Asked for first, for requests above 4 GiB; without it, or where the server has none, as above. */
  readonly extendedHeaders?: boolean
  /** Metadata contexts for blockStatus(); those that the server lacks are missing from `contexts`. */
  readonly metaContexts?: readonly string[]
  readonly signal?: AbortSignal
  /** Connection and negotiation together. Default 10 s. */
  readonly connectTimeoutMs?: number
  /** The longest silence of a server that owes replies. Default 60 s. */
  readonly requestTimeoutMs?: number
}

/** Connects, runs `act` after the greeting, and breaks off on failure, timeout or abort. */
export async function withNegotiation<T>(
  uri: NbdUri,
  { signal, connectTimeoutMs = 10_000 }: NbdConnectOptions,
  act: (socket: Socket, negotiation: ClientNegotiation) => Promise<T>,
): Promise<T> {
  if (uri.tls) throw new NbdConnectionError('this client has no TLS yet')
  signal?.throwIfAborted()
  const { address } = uri
  const where = address.transport === 'unix' ? { path: address.path } : { host: address.host, port: address.port }
  const socket = connectSocket({ ...where, noDelay: true })
  const negotiation = new ClientNegotiation(socket)
  const onError = (error: Error): void => negotiation.fail(new NbdConnectionError(error.message, { cause: error }))
  const onAbort = (): void => negotiation.fail(signal?.reason as Error)
  socket.on('error', onError)
  signal?.addEventListener('abort', onAbort, { once: true })
  const slow = new NbdConnectionError(`the server did not finish negotiation within ${connectTimeoutMs} ms`)
  const timer = setTimeout(() => negotiation.fail(slow), connectTimeoutMs)
  try {
    await negotiation.greet()
    return await act(socket, negotiation)
  } catch (error) {
    socket.destroy()
    throw asConnectionError(error)
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }
}
