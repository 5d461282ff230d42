// Carries byte streams over TCP: tcp://host:port, IPv6 in brackets. Keeps no state beside the sockets that it hands out.

import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import {
  contractVersion,
  type Listener,
  type StreamTransport,
  TransportError,
  type TransportOptions,
} from 'vmstore/transport'

/** A host that vanished is noticed by the kernel, too; links have pings of their own. */
const keepAliveMs = 15_000

export class TcpTransport implements StreamTransport {
  readonly contractVersion = contractVersion
  readonly kind = 'stream'
  readonly schemes = ['tcp']

  async listen(address: URL, accept: (stream: Duplex) => void, options: TransportOptions): Promise<Listener> {
    const { host, port } = parse(address)
    options.signal.throwIfAborted()
    const server = createServer({
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: keepAliveMs,
      allowHalfOpen: true,
    })
    server.on('connection', (socket) => {
      guard(socket, options)
      accept(socket)
    })
    await listening(server, host, port, options.signal)
    server.on('error', (error) =>
      options.log.warn({ address: address.href, err: error }, 'the listener reported an error'),
    )
    const bound = server.address()
    const resolved = new URL(address.href)
    if (bound && typeof bound === 'object') resolved.port = String(bound.port)
    return {
      address: resolved,
      close: async () => {
        // close() calls back when the last stream has ended, which may be never: it has stopped accepting at once.
        if (server.listening) server.close()
      },
    }
  }

  connect(address: URL, options: TransportOptions): Promise<Duplex> {
    const { host, port } = parse(address)
    const { signal } = options
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason)
        return
      }
      const socket = connect({
        host,
        port,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: keepAliveMs,
        allowHalfOpen: true,
      })
      const settle = () => {
        signal.removeEventListener('abort', onAbort)
        socket.off('error', onError)
        socket.off('connect', onConnect)
      }
      const onAbort = () => {
        settle()
        socket.on('error', () => {})
        socket.destroy()
        reject(signal.reason)
      }
      const onError = (error: Error) => {
        settle()
        reject(transportError(error, `${address.host} could not be reached`))
      }
      const onConnect = () => {
        settle()
        guard(socket, options)
        resolve(socket)
      }
      signal.addEventListener('abort', onAbort, { once: true })
      socket.on('error', onError)
      socket.on('connect', onConnect)
    })
  }
}

function parse(address: URL): { host: string; port: number } {
  const host = address.hostname.replace(/^\[|\]$/g, '')
  if (address.protocol !== 'tcp:' || host === '' || address.port === '') {
    throw new TransportError('unavailable', `${address.href} is no address like tcp://host:port`)
  }
  return { host, port: Number(address.port) }
}

function listening(server: Server, host: string, port: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      signal.removeEventListener('abort', onAbort)
      server.off('error', onError)
    }
    const onAbort = () => {
      settle()
      server.on('error', () => {})
      server.close()
      reject(signal.reason)
    }
    const onError = (error: Error) => {
      settle()
      reject(transportError(error, `cannot listen at ${host} port ${port}`))
    }
    signal.addEventListener('abort', onAbort, { once: true })
    server.once('error', onError)
    server.listen({ host, port }, () => {
      settle()
      resolve()
    })
  })
}

/** Whoever gets the stream hears of its errors by 'close' as well; without a listener an error would end the process. */
function guard(socket: Socket, options: TransportOptions): void {
  socket.on('error', (error) => options.log.debug({ err: error }, 'a connection broke'))
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: number } }
  if (typeof handle?.fd === 'number' && handle.fd >= 0) options.tune(handle.fd)
}

function transportError(error: Error, what: string): TransportError {
  const { code } = error as NodeJS.ErrnoException
  const denied = code === 'EACCES' || code === 'EPERM'
  return new TransportError(denied ? 'denied' : 'unavailable', `${what}: ${error.message}`, { cause: error })
}
