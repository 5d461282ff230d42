// The NBD server: doors, connections, and the stop. Knows exports by their catalog only.
// Always: at one door there are at most `limits.connections` sessions with an export, and beside them at most
// `limits.newcomers` that negotiate; no door takes another's places; a place is given back when its session is over,
// whichever way; after stop() no listener, no session and no socket is left.

import type { Server, Socket } from 'node:net'
import type { Count } from '../../entrance/newcomers.ts'
import { BlockPools } from '../../guest/blocks.ts'
import { BusyPoll } from '../../guest/busy-poll.ts'
import type { ExportCatalog } from '../../guest/export.ts'
import { adoptListener, type ListenAddress, type OpenListener, openListener } from '../../guest/listener.ts'
import type { ServerLog } from '../../guest/log.ts'
import { MemoryBudget } from '../../guest/memory-budget.ts'
import { TurnShare } from '../../guest/turn-share.ts'
import { ReadBuffer, SharedPipe } from '../../guest/wire.ts'
import { descriptorOf, peerProcess } from '../../system/sockets.ts'
import { formatNbdUri, type NbdUri, parseNbdUri } from '../wire/uri.ts'
import { type Client, Door } from './door.ts'
import { defaultLimits, type NbdLimits } from './limits.ts'
import { Session, type SessionFacts } from './session.ts'
import { tlsModeOf } from './tls-mode.ts'
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
  readonly #doors = new Set<Door>()
  /** For those that attach() brings. */
  readonly #handedOver: Door
  readonly #sessions = new Set<Session>()
  readonly #whenEmpty: (() => void)[] = []
  #isStopping = false
  #refused: Count | null = null
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
    this.#handedOver = new Door('control', 'off', this.#limits)
    this.#doors.add(this.#handedOver)
  }

  /** Connections, negotiating ones included. */
  get sessions(): number {
    return this.#sessions.size
  }

  /** Connections that were not served: how many, and when the last was refused. null: none. */
  get refused(): Count | null {
    return this.#refused
  }

  /** The ways in, and who has come by them. */
  get doors(): readonly Door[] {
    return [...this.#doors]
  }

  /** The sessions that have an export. */
  get open(): readonly SessionFacts[] {
    return [...this.#sessions].flatMap(({ facts }) => facts ?? [])
  }

  /**
   * Ends one session as stop() does: requests in flight finish and are answered, then the connection is dropped without a
   * word; what is not over after `limitMs` is dropped as it is. Resolves when the client is cut off. False: there is none of that id.
   */
  async drop(id: string, limitMs: number): Promise<boolean> {
    const session = [...this.#sessions].find((each) => each.id === id && each.facts !== undefined)
    if (session === undefined) return false
    this.#log.info(
      { client: session.facts!.client.name, export: session.facts!.exportName, session: id },
      'session dropped by the operator',
    )
    session.drain()
    const late = Promise.withResolvers<void>()
    const timer = setTimeout(() => {
      session.destroy()
      late.resolve()
    }, limitMs)
    await Promise.race([session.over, late.promise])
    clearTimeout(timer)
    return true
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
    const door = new Door(uri, mode, this.#limits)
    const opened = await open((socket) => this.#accept(socket, door))
    opened.server.on('error', (error) => this.#log.error({ uri, err: error }, `a listener failed: ${error.message}`))
    const listener: NbdListener = {
      // What demands TLS is an nbds:// to clients, however it was written.
      uri: formatNbdUri({ tls: mode === 'require', address: opened.address, exportName: '' }),
      close: () => {
        this.#listeners.delete(listener)
        this.#doors.delete(door)
        return closeServer(opened.server)
      },
    }
    if (this.#isStopping) {
      await closeServer(opened.server)
      throw new Error(`cannot listen on ${uri}: the server is stopping`)
    }
    door.name = listener.uri
    this.#listeners.add(listener)
    this.#doors.add(door)
    this.#budget.expect(this.#doors.size * this.#limits.connections)
    return listener
  }

  /**
   * Serves a connection that was accepted elsewhere, by whom the client was found to have every right: in the clear,
   * whatever the listeners demand, and in all else as one of theirs. Nothing was read that is meant for this server.
   */
  attach(socket: Socket): void {
    this.#accept(socket, this.#handedOver)
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

  #accept(socket: Socket, door: Door): void {
    try {
      const client = clientOf(socket)
      if (this.#isStopping || this.#isRefused(client, door)) drop(socket)
      else this.#sessions.add(this.#newSession(socket, client, door))
    } catch (error) {
      // Such as EMFILE: the process has no descriptor left.
      drop(socket)
      this.#refuse({ err: error }, (error as Error).message)
    }
  }

  #isRefused({ name }: Client, door: Door): boolean {
    if (!door.isFull) return false
    door.refuse()
    this.#refuse({ client: name, listener: door.name, sessions: door.sessions }, 'there are too many')
    return true
  }

  /** A client that tries again at once fills no log: a line is written for the first, the second, the fourth and so on. */
  #refuse(facts: object, why: string): void {
    const count = (this.#refused?.count ?? 0) + 1
    this.#refused = { count, last: new Date().toISOString() }
    if (count < 2 * this.#refusedLogged) return
    this.#refusedLogged = count
    this.#log.warn({ ...facts, refused: count }, `connection refused: ${why}`)
  }

  #newSession(socket: Socket, client: Client, door: Door): Session {
    const session: Session = new Session({
      socket,
      readBuffer: this.#readBuffer,
      pipe: this.#pipe,
      poll: this.#poll,
      share: this.#share,
      client,
      door,
      catalog: this.#catalog,
      pools: this.#pools,
      limits: this.#limits,
      budget: this.#budget,
      log: this.#log,
      tls: this.#tls,
      refusal: () =>
        this.#isRefused(client, door) ? `all ${door.sessionsMost} places for clients are taken here` : undefined,
      onOver: () => {
        this.#sessions.delete(session)
        if (this.#sessions.size === 0) for (const resolve of this.#whenEmpty.splice(0)) resolve()
      },
    })
    return session
  }
}

/** @throws Error when it is gone already, or there is no descriptor left. */
function clientOf(socket: Socket): Client {
  const { remoteAddress: address, remotePort: port } = socket
  if (address !== undefined) return { name: `${address}:${port}`, address, pid: undefined }
  return { name: 'unix', address, pid: peerProcess(descriptorOf(socket)) }
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
