// The daemon's control API: HTTP over a Unix socket that only its owner may open.
// Any bytes on the socket are answered or cut off; nothing that a client sends or leaves unsent reaches another.

import { lstatSync, unlinkSync } from 'node:fs'
import type { IncomingMessage, Server } from 'node:http'
import net from 'node:net'
import { fastify } from 'fastify'
import { Newcomers, type Place } from '../entrance/newcomers.ts'
import { descriptorOf, peerProcess } from '../system/sockets.ts'
import { ControlError, errorViewOf } from './errors.ts'
import type { Service } from './service.ts'
import { serveRoutes } from './serving.ts'
import { systemFaultOf } from './system-fault.ts'
import { type ErrorView, ExitCode } from './types.ts'
import { type ServeNbd, upgradeToNbd } from './upgrade.ts'

const maxBodyBytes = 64 * 1024
/** That have asked for something: each command that watches a migration holds one. */
const maxConnections = 256
/** That have not asked for anything yet; the oldest makes room. */
const newcomers = 64
/** For the first byte of a request. */
const firstByteMs = 3000
/** For a request to arrive whole. Answers have no limit. */
const requestTimeoutMs = 30_000
/** For answers under way when the server closes. */
const closeTimeoutMs = 2_000
/** What sun_path takes on Linux, less the final zero. */
const maxSocketPathBytes = 107

/** pino's, or the contract's. */
export interface ControlLog {
  error(facts: Record<string, unknown>, message: string): void
}

export interface ControlServer {
  readonly path: string
  /** Ends event streams at once, lets other answers finish for two seconds, removes the socket. */
  close(): Promise<void>
}

/** Rejects with a ControlError when `path` cannot be listened on. Its folder exists already. */
export async function startControlServer(options: {
  service: Service
  path: string
  log: ControlLog
  /** Serves NBD, in the clear, to whoever may open the socket. */
  serveNbd: ServeNbd
}): Promise<ControlServer> {
  const { service, path, log, serveNbd } = options
  const closing = new AbortController()
  const viewOf = (error: unknown) => {
    const view = requestFault(error) ?? errorViewOf(error)
    if (view !== undefined) return view
    const fault = systemFaultOf(error)
    log.error({ err: error }, `a control request failed${fault ? '' : ' in a way nobody foresaw'}`)
    if (fault !== undefined) return fault
    return internal(error)
  }

  const app = fastify({
    bodyLimit: maxBodyBytes,
    requestTimeout: requestTimeoutMs,
    routerOptions: { maxParamLength: 1024 },
    clientErrorHandler: (_error, socket) => refuseGarbage(socket),
  })
  app.setErrorHandler((error, _request, reply) => {
    const view = viewOf(error)
    return reply.code(statusOf(view)).send({ error: view })
  })
  app.setNotFoundHandler((request, reply) => reply.code(404).send({ error: unknownRequest(request) }))
  app.addHook('onSend', async (_request, reply) => {
    if (closing.signal.aborted) reply.header('connection', 'close')
  })
  serveRoutes(app, { service, closing: closing.signal, viewOf })
  await app.ready()

  upgradeToNbd(app.server, serveNbd)
  boundNewcomers(app.server)
  await listenAlone(app.server, path)
  app.server.on('error', (error) => log.error({ err: error, path }, 'the control socket failed'))

  return {
    path,
    async close() {
      closing.abort(new Error('the daemon is stopping'))
      const closed = new Promise((resolve) => app.server.close(resolve))
      const timer = setTimeout(() => app.server.closeAllConnections(), closeTimeoutMs)
      app.server.closeIdleConnections()
      await closed
      clearTimeout(timer)
      await app.close()
    },
  }
}

/** Connections that ask for nothing, such as a script leaves behind, keep no operator out. */
function boundNewcomers(server: Server): void {
  server.maxConnections = maxConnections + newcomers
  const entrance = new Newcomers({ newcomers, firstByteMs, negotiationMs: requestTimeoutMs })
  const places = new WeakMap<net.Socket, Place>()
  server.prependListener('connection', (socket) => {
    const place = entrance.enter({
      source: sourceOf(socket),
      hasSpoken: () => socket.bytesRead > 0,
      dismiss: () => socket.destroy(),
    })
    places.set(socket, place)
    socket.once('close', () => place.leave())
  })
  const known = ({ socket }: IncomingMessage) => void places.get(socket)?.leave()
  server.prependListener('request', known)
  server.prependListener('upgrade', known)
}

/** The process behind it: a herd of one pushes out its own. */
function sourceOf(socket: net.Socket): string | undefined {
  const pid = peerProcess(descriptorOf(socket))
  return pid === undefined ? undefined : `process ${pid}`
}

/** A socket that a killed daemon left is replaced; one that answers, or a file of another kind, is not. */
async function listenAlone(server: net.Server, path: string): Promise<void> {
  if (Buffer.byteLength(path) > maxSocketPathBytes) {
    throw unusable(`The control socket's path is longer than ${maxSocketPathBytes} bytes: ${path}.`)
  }
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found !== undefined) {
    if (!found.isSocket()) throw unusable(`${path} exists and is not a socket, so the daemon cannot listen there.`)
    if (await answers(path)) {
      throw new ControlError({
        code: 'control-in-use',
        exit: ExitCode.refused,
        message: `Another daemon answers on ${path}.`,
        safe: 'That daemon was not disturbed.',
        next: 'Stop it first, or give this one its own --root.',
      })
    }
    unlinkSync(path)
  }
  try {
    await listenPrivately(server, path)
  } catch (cause) {
    throw unusable(`The daemon cannot listen on ${path}: ${(cause as Error).message}.`, cause)
  }
}

/** The umask closes the moment between bind and chmod: a Unix socket is bound within the call of listen. */
function listenPrivately(server: net.Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    const umask = process.umask(0o177)
    try {
      server.listen(path, () => {
        server.off('error', reject)
        resolve()
      })
    } finally {
      process.umask(umask)
    }
  })
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'))
  })
}

function unusable(message: string, cause?: unknown): ControlError {
  const next = 'Name another place with --control, or another --root.'
  return new ControlError({ code: 'control-unusable', exit: ExitCode.refused, message, next }, { cause })
}

function refuseGarbage(socket: net.Socket): void {
  if (!socket.writable) return
  const body = JSON.stringify({ error: badRequest('this socket speaks HTTP, and that was not a request') })
  socket.end(
    `HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
  socket.destroySoon()
}

const badRequest = (why: string): ErrorView => ({
  code: 'bad-request',
  exit: ExitCode.usage,
  message: `The request was not understood: ${why}.`,
})

const unknownRequest = (request: { method: string; url: string }): ErrorView => ({
  code: 'unknown-request',
  exit: ExitCode.other,
  message: `This daemon does not know ${request.method} ${request.url}.`,
  next: 'Use the vmstore command of the version that runs the daemon.',
})

/** What fastify itself refuses: no JSON, too long, the wrong type. */
function requestFault(error: unknown): ErrorView | undefined {
  const { statusCode, message, exit } = error as { statusCode?: unknown; message?: unknown; exit?: unknown }
  if (exit !== undefined || typeof statusCode !== 'number' || statusCode < 400 || statusCode > 499) return undefined
  return badRequest(String(message))
}

const internal = (error: unknown): ErrorView => ({
  code: 'internal',
  exit: ExitCode.other,
  message: `The daemon failed in a way nobody foresaw: ${error instanceof Error ? error.message : String(error)}.`,
  next: 'Its log has the details; vmstore status shows what it makes of its disks.',
})

function statusOf(view: ErrorView): number {
  if (view.exit === ExitCode.usage) return 400
  if (view.exit === ExitCode.refused) return 409
  return 500
}
