// A cable between two sites that can be cut: TCP, forwarded in this process. What always holds: while it is cut, nothing
// passes and no connection is made.

import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

export class Cable {
  readonly port: number
  readonly #close: () => void
  readonly #sockets = new Set<Socket>()
  #isCut = false
  /** Bytes that went towards whoever dialled. */
  broughtBytes = 0

  private constructor(port: number, close: () => void) {
    this.port = port
    this.#close = close
  }

  /** Leads to a port of this host. */
  static async to(targetPort: number): Promise<Cable> {
    const server = createServer((near) => cable.#join(near, targetPort))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const cable = new Cable((server.address() as { port: number }).port, () => server.close())
    return cable
  }

  /** Every connection breaks. */
  cut(): void {
    this.#isCut = true
    for (const socket of this.#sockets) socket.destroy()
  }

  mend(): void {
    this.#isCut = false
  }

  end(): void {
    this.cut()
    this.#close()
  }

  #join(near: Socket, targetPort: number): void {
    near.on('error', () => {})
    if (this.#isCut) {
      near.destroy()
      return
    }
    const far = connect(targetPort, '127.0.0.1')
    far.on('error', () => {})
    far.on('data', (bytes) => {
      this.broughtBytes += bytes.length
    })
    near.pipe(far)
    far.pipe(near)
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(one)
      one.on('close', () => {
        this.#sockets.delete(one)
        other.destroy()
      })
    }
  }
}
