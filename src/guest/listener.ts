// Opens the sockets that a server listens on. A Unix socket is 0600 from its first instant; one that a dead server left
// behind is replaced, one that a live server answers on is refused, and so is a path that is no socket. A socket that was
// opened by somebody else is taken as it is: its path is neither made nor removed.

import { lstatSync, unlinkSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

/** sockaddr_un has 108 bytes, one of them for the end. */
const unixPathMaxBytes = 107

/** Where a server listens, or is reached. */
export type ListenAddress =
  | { readonly transport: 'tcp'; readonly host: string; readonly port: number }
  | { readonly transport: 'unix'; readonly path: string }

export interface OpenListener {
  readonly server: Server
  /** With the port that was given. */
  readonly address: ListenAddress
}

/** Throws an Error that says in a sentence why not. */
export async function openListener(address: ListenAddress, accept: (socket: Socket) => void): Promise<OpenListener> {
  const server = newServer(accept)
  if (address.transport === 'unix') {
    await makeWayFor(address.path)
    await bind(server, () => listenPrivately(server, address.path))
    return { server, address }
  }
  await bind(server, () => server.listen({ host: address.host, port: address.port }))
  return { server, address: { ...address, port: (server.address() as AddressInfo).port } }
}

/** Serves on a descriptor that listens already, and is the server's from now on. */
export async function adoptListener(
  fd: number,
  address: ListenAddress,
  accept: (socket: Socket) => void,
): Promise<OpenListener> {
  const server = newServer(accept)
  await bind(server, () => server.listen({ fd }))
  return { server, address }
}

function newServer(accept: (socket: Socket) => void): Server {
  // Whoever accepts reads: nothing before.
  return createServer({ allowHalfOpen: true, pauseOnConnect: true }, accept)
}

function bind(server: Server, listen: () => void): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  server.once('listening', () => {
    server.off('error', reject)
    resolve()
  })
  listen()
  return promise
}

/** Node binds within listen(): the mask holds for just that call, so nobody can connect before a chmod. */
function listenPrivately(server: Server, path: string): void {
  const mask = process.umask(0o177)
  try {
    server.listen({ path })
  } finally {
    process.umask(mask)
  }
}

async function makeWayFor(path: string): Promise<void> {
  if (Buffer.byteLength(path) > unixPathMaxBytes) {
    throw new Error(`cannot listen on ${path}: the path of a Unix socket has at most ${unixPathMaxBytes} bytes`)
  }
  const status = lstatSync(path, { throwIfNoEntry: false })
  if (status === undefined) return
  if (!status.isSocket()) throw new Error(`cannot listen on ${path}: it exists and is no socket`)
  if (await answers(path)) throw new Error(`cannot listen on ${path}: another server answers there`)
  unlinkSync(path)
}

function answers(path: string): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>()
  const probe = connect({ path })
  probe.once('connect', () => {
    probe.destroy()
    resolve(true)
  })
  probe.once('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false)
    // EAGAIN: its queue of connections is full, so somebody is there.
    else if (error.code === 'EAGAIN') resolve(true)
    else reject(new Error(`cannot listen on ${path}: ${error.message}`, { cause: error }))
  })
  return promise
}
