// A connection to the control socket that becomes one of NBD: `GET /v1/nbd` with `Upgrade: nbd`. Whoever may open the
// socket is the operator, so what the listeners demand of guests (TLS, a client certificate) is not asked again.
// Always: NBD's server is the first to speak, so a client that has said more than its request is refused.

import type { Server } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { nbdUpgrade } from './routes.ts'
import { type ErrorView, ExitCode } from './types.ts'

/** Takes a connection of which nothing was read but the request; from now on it is the taker's. */
export type ServeNbd = (socket: Socket) => void

export function upgradeToNbd(server: Server, serve: ServeNbd): void {
  server.on('upgrade', (request, socket: Duplex, early: Buffer) => {
    socket.on('error', () => {}) // Whoever has it sees its end.
    const { method, url, headers } = request
    if (
      method !== nbdUpgrade.method ||
      url !== nbdUpgrade.path ||
      headers.upgrade?.toLowerCase() !== nbdUpgrade.protocol
    ) {
      refuse(socket, '404 Not Found', `this daemon does not make ${headers.upgrade} of ${method} ${url}`)
    } else if (early.length > 0 || !(socket instanceof Socket)) {
      refuse(socket, '400 Bad Request', 'an NBD client listens first')
    } else {
      socket.write(`HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: ${nbdUpgrade.protocol}\r\n\r\n`)
      // The taker writes past this stream. A client that leaves no room for so few bytes does not read.
      if (socket.writableLength > 0) socket.destroy()
      else serve(socket)
    }
  })
}

function refuse(socket: Duplex, status: string, why: string): void {
  const error: ErrorView = {
    code: 'bad-request',
    exit: ExitCode.usage,
    message: `The request was not understood: ${why}.`,
  }
  const body = JSON.stringify({ error })
  const head = `HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}`
  socket.end(`${head}\r\n\r\n${body}`, () => socket.destroy())
}
