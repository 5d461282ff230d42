// The NBD server: listeners, connections, and the stop. Knows exports by their catalog only.
// Always: at most `limits.connections` connections, negotiating ones included; a connection's place is given back when
// its session is over, whichever way; after stop() no listener, no session and no socket is left.

import type { Server, Socket } from 'node:net'
import { BlockPools } from '../../guest/blocks.ts'
import { BusyPoll } from '../../guest/busy-poll.ts'
import type { ExportCatalog } from '../../guest/export.ts'
import { adoptListener, type ListenAddress, type OpenListener, openListener } from '../../guest/listener.ts'
import type { ServerLog } from '../../guest/log.ts'
import { MemoryBudget } from '../../guest/memory-budget.ts'
import { TurnShare } from '../../guest/turn-share.ts'
import { ReadBuffer, SharedPipe } from '../../guest/wire.ts'
import { formatNbdUri, type NbdUri, parseNbdUri } from '../wire/uri.ts'
import { defaultLimits, type NbdLimits } from './limits.ts'
import { Session } from './session.ts'
import { type TlsMode, tlsModeOf } from './tls-mode.ts'
import type { TlsServer } from './tls-server.ts'

export interface NbdServerOptions {
  readonly catalog: ExportCatalog
  readonly log: ServerLog
  readonly limits?: Partial<NbdLimits>
  /** Given, TCP demands it and plain Unix sockets offer it. */
  readonly tls?: TlsServer | undefined
  /** `nbd://` with `tls` offers it only. */
  readonly plainIsAllowed?: boolean
}

export interface NbdListener {
  /** Where clients find it: the port is the one that was given. */
  readonly uri: string
  /** Accepts no more; sessions go on. */
  close(): Promise<void>
}

export class NbdServer {
  readonly #catalog: ExportCatalog
  readonly #log: ServerLog
  readonly #limits: NbdLimits
  readonly #budget: MemoryBudget
  readonly #pools = new BlockPools()
  readonly #readBuffer = new ReadBuffer()
  readonly #pipe = new SharedPipe()
  readonly #poll: BusyPoll
  readonly #share: TurnShare
  readonly #tls: TlsServer | undefined
  readonly #plainIsAllowed: boolean
  readonly #listeners = new Set<NbdListener>()
  readonly #sessions = new Set<Session>()
  readonly #whenEmpty: (() => void)[] = []
  #isStopping = false
  #refused: { readonly count: number; readonly last: string } | null = null
  #refusedLogged = 0

  constructor(options: NbdServerOptions) {
    this.#catalog = options.catalog
    this.#log = options.log
    this.#tls = options.tls
    this.#plainIsAllowed = options.plainIsAllowed ?? false
    this.#limits = { ...defaultLimits, ...options.limits }
    this.#poll = new BusyPoll(this.#limits.pollMs)
    this.#share = new TurnShare(this.#limits.turnSteps)
    this.#budget = new MemoryBudget(this.#limits.serverBytes, this.#limits.memoryWaitMs, this.#limits.connections)
  }

  /** Connections, negotiating ones included. */
  get sessions(): number {
    return this.#sessions.size
  }

  /** Connections that were not served: how many, and when the last was refused. null: none. */
  get refused(): { readonly count: number; readonly last: string } | null {
    return this.#refused
  }

  /** Bytes held for all clients: requests not begun, payloads and replies of requests in flight, unread replies. */
  get heldBytes(): number {
    return this.#budget.usedBytes
  }

  /** Listens on an NBD URI, whose export name is left aside. Throws NbdUriError, or an Error with a sentence. */
  async listen(uri: string): Promise<NbdListener> {
    const wanted = parseNbdUri(uri)
    return this.#listen(uri, wanted, (accept) => openListener(wanted.address, accept))
  }

  /** Serves on a descriptor that listens already, at `address`, as systemd passes it. Throws an Error with a sentence. */
  async adopt(fd: number, address: ListenAddress): Promise<NbdListener> {
    const wanted = { tls: false, address, exportName: '' }
    return this.#listen(formatNbdUri(wanted), wanted, (accept) => adoptListener(fd, address, accept))
  }

  async #listen(
    uri: string,
    wanted: NbdUri,
    open: (accept: (socket: Socket) => void) => Promise<OpenListener>,
  ): Promise<NbdListener> {
    if (wanted.tls && this.#tls === undefined) throw new Error(`cannot listen on ${uri}: there are no TLS credentials`)
    if (this.#isStopping) throw new Error(`cannot listen on ${uri}: the server is stopping`)
    const mode = tlsModeOf(wanted, this.#tls !== undefined, this.#plainIsAllowed)
    const opened = await open((socket) => this.#accept(socket, mode))
    opened.server.on('error', (error) => this.#log.error({ uri, err: error }, `a listener failed: ${error.message}`))
    const listener: NbdListener = {
      // What demands TLS is an nbds:// to clients, however it was written.
      uri: formatNbdUri({ tls: mode === 'require', address: opened.address, exportName: '' }),
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
   * Serves a connection that was accepted elsewhere, by whom the client was found to have every right: in the clear,
   * whatever the listeners demand, and in all else as one of theirs. Nothing was read that is meant for this server.
   */
  attach(socket: Socket): void {
    this.#accept(socket, 'off')
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
    this.#pipe.close()
  }

  #accept(socket: Socket, tlsMode: TlsMode): void {
    const client = socket.remoteAddress === undefined ? 'unix' : `${socket.remoteAddress}:${socket.remotePort}`
    if (this.#isStopping || this.#sessions.size >= this.#limits.connections) {
      drop(socket)
      if (!this.#isStopping) this.#refuse({ client, sessions: this.#sessions.size }, 'there are too many')
      return
    }
    try {
      const session = this.#newSession(socket, client, tlsMode)
      this.#sessions.add(session)
    } catch (error) {
      // Such as EMFILE: the process has no descriptor left.
      drop(socket)
      this.#refuse({ client, err: error }, (error as Error).message)
    }
  }

  /** A client that tries again at once fills no log: a line is written for the first, the second, the fourth and so on. */
  #refuse(facts: object, why: string): void {
    const count = (this.#refused?.count ?? 0) + 1
    this.#refused = { count, last: new Date().toISOString() }
    if (count < 2 * this.#refusedLogged) return
    this.#refusedLogged = count
    this.#log.warn({ ...facts, refused: count }, `connection refused: ${why}`)
  }

  #newSession(socket: Socket, client: string, tlsMode: TlsMode): Session {
    const session: Session = new Session({
      socket,
      readBuffer: this.#readBuffer,
      pipe: this.#pipe,
      poll: this.#poll,
      share: this.#share,
      client,
      catalog: this.#catalog,
      pools: this.#pools,
      limits: this.#limits,
      budget: this.#budget,
      log: this.#log,
      tls: this.#tls && { mode: tlsMode, server: this.#tls },
      onOver: () => {
        this.#sessions.delete(session)
        if (this.#sessions.size === 0) for (const resolve of this.#whenEmpty.splice(0)) resolve()
      },
    })
    return session
  }
}

function drop(socket: Socket): void {
  socket.on('error', () => {})
  socket.destroy()
}

/** The callback waits for connections too, and those are ours to end: the socket itself is closed at once. */
function closeServer(server: Server): Promise<void> {
  server.close()
  return Promise.resolve()
}
