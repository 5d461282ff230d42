// One secured stream between two sites. Both say hello, then either may call and fetch; answers come in any order.
// A lane is opening, open or closed, and closes once: everything under way then ends with the same LinkError.
// Silence is counted in ticks and not by a clock, so that neither a busy loop nor a suspended host breaks a lane.
//
// Both sides ping once a second, whatever else they do, so each hears of the other every second, or bytes all the time.
// When nothing was heard for 2 to 3 s the lane is silent, which harms nothing (link/peers/peer-links.ts); after 10 s it is dead.
// It does not matter whether an answer is due: what the other side waits for may be stuck here, in the kernel.
// Not taken for silent: any round trip and any bandwidth, if the way gets no longer by more than a second at once, as when a
// queue fills; a slow line that is full of pieces, whose parts are heard as they come (16 KiB: 0.13 s at 1 Mbit/s).
// Not used: TCP_USER_TIMEOUT, which also cuts a connection to a peer that lives but has its hands full and does not read.

import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { detach } from '../../block/own-memory.ts'
import { loopTurns } from '../../block/turns.ts'
import type { Log } from '../../transport/index.ts'
import { type FetchRequest, LinkError, type PeerHandlers, type Piece, type Purpose, type Urgency } from '../channel.ts'
import type { Clock } from '../clock.ts'
import { encodeEmpty, encodeJson, type Frame, FrameDecoder } from '../wire/frames.ts'
import {
  type HelloMessage,
  helloMessage,
  incompatibility,
  oldestVersion,
  parseMessage,
  protocolVersion,
  type Versions,
} from '../wire/messages.ts'
import { Requester } from './requester.ts'
import { Responder } from './responder.ts'
import { Sender } from './sender.ts'

export const tickMs = 1000
/** Ticks, the first of which is a part of one, in which nothing was heard by a side that was reading. */
export const silenceTicks = 3
/** A side that heard nothing for this long, while it was reading, gives the lane up. */
export const deadTicks = 10
/** Bytes after which a lane leaves the loop to others. */
const turnBytes = 64 * 1024
export const helloDeadlineMs = 10_000
/** A peer that is refused gets our hello, and this long to read it. */
const refusalLingerMs = 2000

export interface LaneOptions {
  readonly peerId: string
  /** What we dialled for; undefined for a stream that the peer dialled, whose hello says it. */
  readonly purpose: Purpose | undefined
  readonly handlers: PeerHandlers
  readonly log: Log
  readonly clock: Clock
  /** For tests: another version than ours. */
  readonly versions?: Versions
}

export class Lane {
  readonly peerId: string
  /** Resolves once both said hello; rejects with LinkError. */
  readonly opened: Promise<void>
  readonly #options: LaneOptions
  readonly #stream: Duplex
  readonly #decoder = new FrameDecoder()
  readonly #sender: Sender
  readonly #requester: Requester
  readonly #responder: Responder
  readonly #closers: ((error: LinkError) => void)[] = []
  #silenceChanged: () => void = () => {}
  readonly #settleOpened: PromiseWithResolvers<void>
  #state: 'opening' | 'open' | 'closed' = 'opening'
  #purpose: Purpose | undefined
  #error: LinkError | undefined
  #timer: Disposable | undefined
  #deadline: Disposable | undefined
  #ticksHeardNothing = 0
  /** Because of what waits for its taker; and until the next turn of the loop, because of what came in this one. */
  #paused = false
  #hasTakenItsTurn = false
  #bytesOfTurn = 0
  #pingUnsent = false
  #pongUnsent = false

  constructor(stream: Duplex, options: LaneOptions) {
    this.peerId = options.peerId
    this.#options = options
    this.#stream = stream
    this.#purpose = options.purpose
    this.#settleOpened = Promise.withResolvers<void>()
    this.opened = this.#settleOpened.promise
    this.opened.catch(() => {})
    this.#sender = new Sender(stream)
    this.#requester = new Requester(this.#sender, (full) => this.#flow(full))
    const { peerId, handlers, log } = options
    this.#responder = new Responder({ peerId, handlers, log, sender: this.#sender })

    stream.on('error', (error) => this.#fail(lost(`the connection broke: ${error.message}`, error)))
    stream.on('close', () => this.#fail(lost('the connection was closed')))
    stream.on('end', () => this.#fail(lost('the peer closed the connection')))
    this.#deadline = options.clock.after(helloDeadlineMs, () =>
      this.#fail(lost(`the peer said no hello within ${helloDeadlineMs / 1000} s`)),
    )
    this.#schedule()
    if (options.purpose) this.#sendHello(options.purpose)
    if (stream.destroyed) this.#fail(lost('the connection was closed'))
    else {
      stream.on('data', (chunk: Buffer) => {
        this.#receive(chunk)
        // Decrypted for us alone, and copied. Other streams may hand over what their other end still uses.
        if (stream instanceof TLSSocket) detach(chunk)
      })
    }
  }

  get isOpen(): boolean {
    return this.#state === 'open'
  }

  /** Known once opened. */
  get purpose(): Purpose {
    return this.#purpose ?? 'control'
  }

  /** Requests under way, in both directions. */
  get outstanding(): number {
    return this.#requester.outstanding + this.#responder.outstanding
  }

  call(method: string, params: object, signal: AbortSignal): Promise<unknown> {
    return this.#requester.call(method, params, signal)
  }

  fetch(request: FetchRequest, urgency: Urgency, signal: AbortSignal): AsyncGenerator<Piece> {
    return this.#requester.fetch(request, urgency, signal)
  }

  get isSilent(): boolean {
    return this.#ticksHeardNothing >= silenceTicks
  }

  /** Called when `isSilent` has changed, and each second while it is true. */
  onSilence(listener: () => void): void {
    this.#silenceChanged = listener
  }

  /** At once, when it is closed already. */
  onClosed(listener: (error: LinkError) => void): void {
    if (this.#error) listener(this.#error)
    else this.#closers.push(listener)
  }

  close(error = new LinkError('lost', 'the lane was closed here')): void {
    this.#fail(error)
  }

  get #versions(): Versions {
    return this.#options.versions ?? { protocolVersion, oldestVersion }
  }

  #sendHello(purpose: Purpose): void {
    const hello: HelloMessage = { ...this.#versions, purpose, features: [] }
    this.#sender.push(encodeJson('hello', 0, hello))
  }

  #receive(chunk: Buffer): void {
    if (this.#state === 'closed') return
    this.#heard()
    this.#bytesOfTurn += chunk.length
    if (this.#bytesOfTurn >= turnBytes) this.#awaitTurn()
    try {
      for (const frame of this.#decoder.push(chunk)) {
        this.#handle(frame)
        if (this.#error) return
      }
    } catch (error) {
      this.#fail(error instanceof LinkError ? error : new LinkError('protocol', 'a frame failed', { cause: error }))
    }
  }

  #heard(): void {
    const wasSilent = this.isSilent
    this.#ticksHeardNothing = 0
    if (wasSilent) this.#silenceChanged()
  }

  #handle(frame: Frame): void {
    if ((frame.type === 'hello') !== (this.#state === 'opening')) {
      throw new LinkError(
        'protocol',
        `the peer sent ${frame.type} ${this.#state === 'open' ? 'again' : 'before its hello'}`,
      )
    }
    switch (frame.type) {
      case 'hello':
        this.#greet(parseMessage(helloMessage, frame.json, 'hello'))
        break
      case 'ping':
        this.#answerPing()
        break
      case 'pong':
        break
      case 'call':
      case 'fetch':
      case 'cancel':
        this.#responder.receive(frame)
        break
      default:
        this.#requester.receive(frame)
    }
  }

  /** A peer that pings and does not read gets one answer. */
  #answerPing(): void {
    if (this.#pongUnsent) return
    this.#pongUnsent = true
    this.#sender.push(encodeEmpty('pong', 0), () => {
      this.#pongUnsent = false
    })
  }

  #greet(hello: HelloMessage): void {
    if (this.#options.purpose === undefined) this.#sendHello(hello.purpose)
    const why = incompatibility(hello, this.#versions)
    if (why) {
      this.#fail(new LinkError('incompatible', why), { linger: true })
      return
    }
    if (this.#options.purpose !== undefined && hello.purpose !== this.#options.purpose) {
      throw new LinkError(
        'protocol',
        `the peer answered a lane for ${this.#options.purpose} with one for ${hello.purpose}`,
      )
    }
    this.#purpose = hello.purpose
    this.#state = 'open'
    this.#deadline?.[Symbol.dispose]()
    this.#settleOpened.resolve()
  }

  #schedule(): void {
    this.#timer = this.#options.clock.after(tickMs, () => {
      if (this.#state === 'closed') return
      this.#tick()
      if (!this.#error) this.#schedule()
    })
  }

  #tick(): void {
    if (this.#state !== 'open') return
    this.#ticksHeardNothing = this.#paused ? 0 : this.#ticksHeardNothing + 1
    if (this.#ticksHeardNothing >= deadTicks) {
      this.#fail(lost(`nothing was heard from the peer for ${(deadTicks * tickMs) / 1000} s`))
      return
    }
    try {
      if (!this.#paused) this.#requester.tick()
    } catch (error) {
      this.#fail(error as LinkError)
      return
    }
    this.#ping()
    if (this.isSilent) this.#silenceChanged() // Each second: who asks on a silent lane is not left to its end.
  }

  /** A paused side pings too: its peer hears that it lives, though nothing of the peer is read here. */
  #ping(): void {
    if (this.#pingUnsent) return
    this.#pingUnsent = true
    this.#sender.push(encodeEmpty('ping', 0), () => {
      this.#pingUnsent = false
    })
  }

  #flow(full: boolean): void {
    this.#paused = full
    if (this.#state === 'closed') return
    if (full) this.#stream.pause()
    else if (!this.#hasTakenItsTurn) this.#stream.resume()
  }

  /** Reads on in a later turn of the loop: what came is hashed, and lands, in this one. */
  #awaitTurn(): void {
    if (this.#hasTakenItsTurn) return
    this.#hasTakenItsTurn = true
    this.#stream.pause()
    void loopTurns.next(this.#purpose === 'background' ? 'background' : 'demand').then(() => {
      this.#hasTakenItsTurn = false
      this.#bytesOfTurn = 0
      if (this.#state !== 'closed' && !this.#paused) this.#stream.resume()
    })
  }

  #fail(error: LinkError, { linger = false } = {}): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#error = error
    this.#timer?.[Symbol.dispose]()
    this.#deadline?.[Symbol.dispose]()
    this.#settleOpened.reject(error)
    this.#requester.fail(error)
    this.#responder.close()
    this.#sender.fail(error)
    if (linger) {
      this.#stream.end()
      const timer = this.#options.clock.after(refusalLingerMs, () => this.#stream.destroy())
      this.#stream.once('close', () => timer[Symbol.dispose]())
    } else this.#stream.destroy()
    for (const closer of this.#closers.splice(0)) closer(error)
  }
}

function lost(message: string, cause?: unknown): LinkError {
  return new LinkError('lost', message, { cause })
}
