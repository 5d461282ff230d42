// One client connection from accept to the end: negotiation in a newcomer's place, transmission, and the ways out.
// Always: the handle is closed exactly once, after every request that it had has been answered or has failed, with
// 'disconnected' only after NBD_CMD_DISC; `onOver` comes exactly once, when socket and handle are both done with.

import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { type Dismissal, dismissalTexts, type Place } from '../../entrance/newcomers.ts'
import type { BlockPool } from '../../guest/blocks.ts'
import type { BusyPoll } from '../../guest/busy-poll.ts'
import type { Export, ExportCatalog, SessionEnd } from '../../guest/export.ts'
import type { ServerLog } from '../../guest/log.ts'
import type { MemoryBudget } from '../../guest/memory-budget.ts'
import type { TurnShare } from '../../guest/turn-share.ts'
import { type ReadBuffer, type SharedPipe, takeOver, Wire } from '../../guest/wire.ts'
import { ProtocolError } from '../wire/negotiation-codecs.ts'
import { type Client, type Door, sourceOfClient } from './door.ts'
import { toldCodeOf } from './guest-errors.ts'
import type { NbdLimits } from './limits.ts'
import type { Agreement } from './negotiation.ts'
import { NegotiationPhase } from './negotiation-phase.ts'
import { Tally } from './tally.ts'
import type { TlsServer } from './tls-server.ts'
import { Transmission } from './transmission.ts'

type SessionState = 'negotiating' | 'transmitting' | 'finishing' | 'hangingUp' | 'over'

/** `finishing`: nothing new is begun. `hangingUp`: all is answered; the client may still read it. */
const moves: Readonly<Record<SessionState, readonly SessionState[]>> = {
  negotiating: ['transmitting', 'hangingUp', 'over'],
  transmitting: ['finishing'],
  finishing: ['hangingUp', 'over'],
  hangingUp: ['over'],
  over: [],
}

export interface SessionOptions {
  /** As it was accepted: nothing was read. */
  readonly socket: Socket
  readonly readBuffer: ReadBuffer
  readonly pipe: SharedPipe
  readonly poll: BusyPoll
  readonly share: TurnShare
  readonly client: Client
  /** Through which it came in. */
  readonly door: Door
  readonly catalog: ExportCatalog
  /** The memory for an export's payloads and replies; given back at the end of the session. */
  readonly pools: { take(of: Export): BlockPool; giveBack(of: Export): void }
  readonly limits: NbdLimits
  readonly budget: MemoryBudget
  readonly log: ServerLog
  readonly tls: TlsServer | undefined
  /** Why nobody may have an export now; undefined: the client may. */
  refusal(): string | undefined
  onOver(): void
}

/** What is told of a session that has an export. */
export interface SessionFacts {
  readonly id: string
  readonly exportId: string
  readonly exportName: string
  readonly client: Client
  readonly door: string
  /** undefined: in the clear. */
  readonly tlsVersion: string | undefined
  readonly since: Date
  /** `ending`: no request of it is begun any more. */
  readonly state: 'open' | 'ending'
  readonly tally: Readonly<Tally>
  readonly inFlight: number
  /** Replies that the client has left unread, beyond what the system holds for it. */
  readonly unreadBytes: number
  readonly hasUnflushed: boolean
}

export class Session {
  readonly id = randomUUID().slice(0, 8)
  readonly #tally = new Tally()
  readonly #client: string
  readonly #place: Place
  #since: Date | undefined
  #hasSpoken = false
  readonly #whenOver: (() => void)[] = []
  readonly #options: SessionOptions
  readonly #negotiation: NegotiationPhase
  /** The client's; from STARTTLS on the one that TLS made of it. */
  #socket: Socket
  /** Of the plain socket; none behind TLS. */
  #fd: number | undefined
  #state: SessionState = 'negotiating'
  #timer: NodeJS.Timeout | undefined
  #transmission: Transmission | undefined
  #wire: Wire | undefined
  #agreement: Agreement | undefined
  #end: SessionEnd = 'broken'
  #socketIsClosed = false
  #tlsVersion: string | undefined
  /** By us, and it has been said why. */
  #isDropped = false
  readonly #onClose = (): void => this.#closed()

  constructor(options: SessionOptions) {
    this.#options = options
    const { catalog, limits, log, tls, door } = options
    const client = options.client.name
    const { deadClientMs } = limits
    const { socket, fd } = takeOver(options.socket, { buffer: options.readBuffer, deadClientMs }, (bytes, from, to) =>
      this.#received(bytes, from, to),
    )
    this.#client = client
    this.#socket = socket
    this.#fd = fd
    this.#negotiation = new NegotiationPhase({
      socket,
      client,
      catalog,
      limits,
      log,
      tls: tls && { mode: door.tlsMode, server: tls },
      refusal: () => options.refusal(),
      onSecured: (secured) => this.#secured(secured),
      onAgreed: (agreement, rest) => this.#transmit(agreement, rest),
      onHangUp: () => this.#hangUp(),
      onFailure: (error) => this.#failed(error),
      onTlsFailure: (reason) => {
        if (!this.#isDropped) this.#breakOff(`the TLS handshake failed: ${reason}`)
      },
    })
    this.#listen()
    this.#place = door.newcomers.enter({
      source: sourceOfClient(options.client),
      hasSpoken: () => this.#hasSpoken,
      dismiss: (why) => this.#dismissed(why),
    })
  }

  #listen(): void {
    this.#socket.on('error', (error) => this.#logBreak(error))
    this.#socket.on('close', this.#onClose)
    this.#socket.on('end', () => this.#ended())
    this.#socket.on('drain', () => {
      if (this.#state === 'negotiating') this.#negotiation.drained()
    })
  }

  get isOver(): boolean {
    return this.#state === 'over'
  }

  /** undefined: it has no export. */
  get facts(): SessionFacts | undefined {
    const agreement = this.#agreement
    if (agreement === undefined || this.#state === 'over') return undefined
    return {
      id: this.id,
      exportId: agreement.export.id,
      exportName: agreement.export.name,
      client: this.#options.client,
      door: this.#options.door.name,
      tlsVersion: this.#tlsVersion,
      since: this.#since!,
      state: this.#state === 'transmitting' ? 'open' : 'ending',
      tally: this.#tally,
      inFlight: this.#transmission!.inFlight,
      unreadBytes: this.#wire!.queuedBytes,
      hasUnflushed: agreement.handle.hasUnflushed ?? false,
    }
  }

  /** Resolves when socket and handle are both done with. */
  get over(): Promise<void> {
    if (this.isOver) return Promise.resolve()
    return new Promise((resolve) => this.#whenOver.push(resolve))
  }

  #dismissed(why: Dismissal): void {
    if (this.#isDropped || this.#socketIsClosed) return
    this.#breakOff(dismissalTexts[why])
  }

  /** Lets requests in flight finish, answers them, then drops the connection. */
  drain(): void {
    if (this.#state === 'negotiating') this.destroy()
    else this.#finish()
  }

  destroy(): void {
    this.#isDropped = true
    this.#socket.destroy()
  }

  #move(next: SessionState): void {
    if (!moves[this.#state].includes(next)) throw new Error(`a session does not go from ${this.#state} to ${next}`)
    this.#state = next
  }

  /** Bytes [from, to), which last for the time of the call. */
  #received(bytes: Buffer, from: number, to: number): void {
    try {
      if (this.#state === 'transmitting') {
        this.#options.poll.began()
        this.#transmission!.receive(bytes, from, to)
        this.#options.poll.ended()
      } else if (this.#state === 'negotiating') {
        this.#hasSpoken = true
        this.#negotiation.push(bytes, from, to)
      }
    } catch (error) {
      this.#failed(error)
    }
  }

  #secured(secured: TLSSocket): void {
    this.#socket.off('close', this.#onClose)
    this.#socket = secured
    this.#tlsVersion = secured.getProtocol() ?? undefined
    this.#fd = undefined
    this.#listen()
    secured.on('data', (chunk: Buffer) => this.#received(chunk, 0, chunk.length))
  }

  #transmit(agreement: Agreement, rest: Buffer): void {
    this.#move('transmitting')
    this.#place.leave()
    this.#options.door.sessions++
    this.#since = new Date()
    this.#agreement = agreement
    const { limits, budget, log, pools, share } = this.#options
    const client = this.#client
    const socket = this.#socket
    const { style } = agreement
    const facts = { client, export: agreement.export.name, replies: style.name, tls: this.#tlsVersion }
    log.info(facts, 'session open')
    this.#wire = new Wire(socket, this.#fd, this.#options.pipe)
    this.#transmission = new Transmission({
      wire: this.#wire,
      agreement,
      limits,
      pool: pools.take(agreement.export),
      budget,
      share,
      log,
      client,
      tally: this.#tally,
      onDisconnect: () => {
        this.#end = 'disconnected'
        this.#move('finishing')
        this.#watchReader()
      },
      onAllBegun: () => this.#finish(),
      onFailure: (error) => this.#failed(error),
      onQuiet: () => this.#quiet(),
    })
    // First this, for the transmission may hold the client back at once.
    socket.resume()
    if (rest.length > 0) this.#transmission.receive(rest, 0, rest.length)
  }

  /** The client sends nothing more. Without DISC that is a break, but what it asked for is still answered. */
  #ended(): void {
    if (this.#state === 'negotiating') this.destroy()
    // Behind these states the handle is closed.
    if (this.#state !== 'transmitting' && this.#state !== 'finishing') return
    this.#agreement!.handle.hangUp?.()
    this.#transmission!.clientEnded()
  }

  #finish(): void {
    if (this.#state !== 'transmitting') return
    this.#move('finishing')
    this.#watchReader()
    this.#transmission!.stopIntake()
  }

  /** Long replies that were begun go on, but not for a client that reads nothing of them. */
  #watchReader(): void {
    const before = this.#wire!.waitingWrite
    this.#timer = setTimeout(() => {
      if (before !== undefined && before === this.#wire!.waitingWrite) this.#breakOffReader()
      else this.#watchReader()
    }, this.#options.limits.lingerMs)
  }

  /** Nothing is in flight and nothing will be: the export's use is over. */
  #quiet(): void {
    this.#closeHandle()
    if (this.#socketIsClosed) this.#over()
    else this.#hangUp()
  }

  #hangUp(): void {
    this.#move('hangingUp')
    const socket = this.#socket
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#breakOffReader(), this.#options.limits.lingerMs)
    socket.resume()
    socket.destroySoon()
  }

  #closed(): void {
    clearTimeout(this.#timer)
    this.#socketIsClosed = true
    if (this.#state === 'transmitting') this.#move('finishing')
    if (this.#state === 'finishing') this.#agreement?.handle.hangUp?.()
    this.#transmission?.socketClosed()
    // With requests in flight the end comes with the last of them, by #quiet().
    if (this.#state === 'negotiating' || this.#state === 'hangingUp') this.#over()
  }

  #over(): void {
    if (this.#state === 'over') return
    this.#move('over')
    this.#place.leave()
    if (this.#agreement !== undefined) this.#options.door.sessions--
    this.#options.onOver()
    for (const resolve of this.#whenOver.splice(0)) resolve()
  }

  #closeHandle(): void {
    const { log, pools } = this.#options
    const client = this.#client
    const agreement = this.#agreement!
    pools.giveBack(agreement.export)
    log.info({ client, export: agreement.export.name, end: this.#end }, 'session over')
    try {
      agreement.handle.close(this.#end)
    } catch (error) {
      log.error({ client, export: agreement.export.name, err: error }, 'close failed')
    }
  }

  #failed(error: unknown): void {
    if (error instanceof ProtocolError || toldCodeOf(error) !== undefined) this.#breakOff((error as Error).message)
    else {
      this.#options.log.error({ client: this.#client, err: error }, 'connection dropped: the server failed')
      this.destroy()
    }
  }

  #breakOffReader(): void {
    this.#breakOff('the client did not read its last replies')
  }

  #breakOff(reason: string): void {
    this.#options.log.info({ client: this.#client }, `connection dropped: ${reason}`)
    this.destroy()
  }

  #logBreak(error: Error): void {
    this.#options.log.debug({ client: this.#client, err: error }, `connection broke: ${error.message}`)
  }
}
