// A herd: connections by the hundred that are made, and then do as they are told, or nothing. All are ended after the test.

import { connect, type Socket, type TcpNetConnectOpts } from 'node:net'
import { afterwards } from '../e2e/sites.ts'

export interface Herd {
  readonly sockets: readonly Socket[]
  /** How many have been ended by the other side. */
  readonly ended: number
}

/** Resolves when all are connected. What comes to them is read and left aside. */
export async function herd(count: number, to: TcpNetConnectOpts | { path: string }, each?: (one: Socket) => void) {
  const sockets: Socket[] = []
  const gone = new Set<Socket>()
  afterwards(() => {
    for (const socket of sockets) socket.destroy()
  })
  await Promise.all(
    Array.from({ length: count }, () => {
      const socket = connect(to)
      sockets.push(socket)
      socket.on('error', () => {})
      socket.on('close', () => gone.add(socket))
      socket.resume()
      return new Promise<void>((resolve) => {
        socket.once('close', () => resolve())
        socket.once('connect', () => {
          each?.(socket)
          resolve()
        })
      })
    }),
  )
  return {
    sockets,
    get ended() {
      return gone.size
    },
  } satisfies Herd
}
