// A Unix socket at which a test speaks NBD, or anything else, by itself.

import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { temporaryFolder } from './harness.ts'

export interface RawServer extends AsyncDisposable {
  /** Of its export `disk`. */
  readonly uri: string
  /** Breaks every connection off. */
  dropAll(): void
  /** Nobody can connect any more, or again. */
  close(): void
}

/** `talk` gets the socket of each client, once it has connected; a connection that breaks is no error. */
export async function rawServer(talk: (socket: Socket) => void): Promise<RawServer> {
  const folder = temporaryFolder()
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    talk(socket)
  })
  const path = join(folder.path, 'raw.sock')
  server.listen(path)
  await once(server, 'listening')
  const dropAll = () => {
    for (const socket of sockets) socket.destroy()
  }
  const close = () => void server.close()
  return {
    uri: `nbd+unix:///disk?socket=${path}`,
    dropAll,
    close,
    async [Symbol.asyncDispose]() {
      dropAll()
      close()
      folder[Symbol.dispose]()
    },
  }
}
