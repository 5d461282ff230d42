// The NBD server: listeners, connections, and the stop. Knows exports by their catalog only.
// Always: at most `limits.connections` connections, negotiating ones included; a connection's place is given back when
// its session is over, whichever way; after stop() no listener, no session and no socket is left.

import type { Server, Socket } from 'node:net'
import type { ExportCatalog } from './export.ts'
import { defaultLimits, type NbdLimits, type NbdLog } from './limits.ts'
import { adoptListener, type OpenListener, openListener } from './listener.ts'
import { MemoryBudget } from './memory-budget.ts'
import { Session } from './session.ts'
import { formatNbdUri, type NbdAddress, parseNbdUri } from './uri.ts'

export interface NbdServerOptions {
  readonly catalog: ExportCatalog
  readonly log: NbdLog
  readonly limits?: Partial<NbdLimits>
}

export interface NbdListener {
  /** Where clients find it: the port is the one that was given. */
  readonly uri: string
  /** Accepts no more; sessions go on. */
  close(): Promise<void>
}

export class NbdServer {
  readonly #catalog: ExportCatalog
  readonly #log: NbdLog
  readonly #limits: NbdLimits
  readonly #budget: MemoryBudget
  readonly #listeners = new Set<NbdListener>()
  readonly #sessions = new Set<Session>()
  readonly #whenEmpty: (() => void)[] = []
  #isStopping = false

  constructor(options: NbdServerOptions) {
    this.#catalog = options.catalog
    this.#log = options.log
    this.#limits = { ...defaultLimits, ...options.limits }
    this.#budget = new MemoryBudget(this.#limits.serverBytes, this.#limits.memoryWaitMs)
  }

  /** Connections, negotiating ones included. */
  get sessions(): number {
    return this.#sessions.size
  }

  /** Bytes held for all clients: payloads being gathered, requests in flight, unread replies. */
  get heldBytes(): number {
    return this.#budget.usedBytes
  }

  /** Listens on an NBD URI, whose export name is left aside. Throws NbdUriError, or an Error with a sentence. */
  async listen(uri: string): Promise<NbdListener> {
    const { tls, address } = parseNbdUri(uri)
    if (tls) throw new Error(`cannot listen on ${uri}: this server has no TLS yet`)
    return this.#listen(uri, tls, () => openListener(address, (socket) => this.#accept(socket)))
  }

  /** Serves on a descriptor that listens already, at `address`, as systemd passes it. Throws an Error with a sentence. */
  async adopt(fd: number, address: NbdAddress): Promise<NbdListener> {
    const uri = formatNbdUri({ tls: false, address, exportName: '' })
    return this.#listen(uri, false, () => adoptListener(fd, address, (socket) => this.#accept(socket)))
  }

  async #listen(uri: string, tls: boolean, open: () => Promise<OpenListener>): Promise<NbdListener> {
    if (this.#isStopping) throw new Error(`cannot listen on ${uri}: the server is stopping`)
    const opened = await open()
    opened.server.on('error', (error) => this.#log.error({ uri, err: error }, `a listener failed: ${error.message}`))
    const listener: NbdListener = {
      uri: formatNbdUri({ tls, address: opened.address, exportName: '' }),
      close: () => {
        this.#listeners.delete(listener)
        return closeServer(opened.server)
      },
    }
    if (this.#isStopping) {
      await closeServer(opened.server)
      throw new Error(`cannot listen on ${uri}: the server is stopping`)
    }
    this.#listeners.add(listener)
    return listener
  }

  /**
   * Stops. With `drain`, requests in flight finish and are answered, then connections are dropped without a word; without,
   * they are dropped at once. May be called again, without `drain`, while a drain lasts. Resolves when every handle is closed.
   */
  async stop({ drain }: { readonly drain: boolean }): Promise<void> {
    this.#isStopping = true
    const closing = [...this.#listeners].map((listener) => listener.close())
    for (const session of [...this.#sessions]) {
      if (drain) session.drain()
      else session.destroy()
    }
    if (this.#sessions.size > 0) await new Promise<void>((resolve) => this.#whenEmpty.push(resolve))
    await Promise.all(closing)
  }

  #accept(socket: Socket): void {
    const client = socket.remoteAddress === undefined ? 'unix' : `${socket.remoteAddress}:${socket.remotePort}`
    if (this.#isStopping || this.#sessions.size >= this.#limits.connections) {
      this.#log.warn({ client, sessions: this.#sessions.size }, 'connection refused: there are too many')
      socket.on('error', () => {})
      socket.destroy()
      return
    }
    socket.setNoDelay(true)
    socket.setKeepAlive(true, 60_000)
    const session: Session = new Session({
      socket,
      client,
      catalog: this.#catalog,
      limits: this.#limits,
      budget: this.#budget,
      log: this.#log,
      onOver: () => {
        this.#sessions.delete(session)
        if (this.#sessions.size === 0) for (const resolve of this.#whenEmpty.splice(0)) resolve()
      },
    })
    this.#sessions.add(session)
  }
}

/** The callback waits for connections too, and those are ours to end: the socket itself is closed at once. */
function closeServer(server: Server): Promise<void> {
  server.close()
  return Promise.resolve()
}
