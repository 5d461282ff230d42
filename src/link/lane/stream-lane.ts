// A lane over one secured stream between two sites. Both say hello, then either may call and fetch; answers come in any order.
// What comes is taken in short turns of the loop, and left in the stream while too much of it waits for its taker.

import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import type { Timers } from '../../block/clock.ts'
import { detach } from '../../block/own-memory.ts'
import { loopTurns } from '../../block/turns.ts'
import type { Piece, Urgency } from '../../block/units.ts'
import type { Log } from '../../transport/index.ts'
import { type FetchRequest, LinkError, type LongAnswer, type PeerHandlers, type Purpose } from '../channel.ts'
import { encodeJson, type Frame, FrameDecoder, maximumPieceBytes } from '../wire/frames.ts'
import {
  anyHelloMessage,
  type HelloMessage,
  helloMessage,
  incompatibility,
  oldestVersion,
  parseMessage,
  protocolVersion,
  type Versions,
} from '../wire/messages.ts'
import type { Lane } from './lane.ts'
import { deadTicks, Pulse, tickMs } from './pulse.ts'
import { Requester } from './requester.ts'
import { Responder } from './responder.ts'
import { Sender } from './sender.ts'

/** Bytes after which a lane leaves the loop to others. They are copied; those of long pieces are hashed in other turns. */
const turnBytes = 128 * 1024
export const helloDeadlineMs = 10_000
/** A peer that is refused gets our hello, and this long to read it. */
const refusalLingerMs = 2000
const leastJunkBytes = 64 * 1024

/** What a lane is for, in the hello of whoever dialled; the other answers with the same. */
export interface Use {
  readonly purpose: Purpose
  readonly stripe: number
}

export interface StreamLaneOptions {
  readonly peerId: string
  /** What we dialled for; undefined for a stream that the peer dialled. */
  readonly use: Use | undefined
  readonly handlers: PeerHandlers
  readonly log: Log
  readonly clock: Timers
  /** The peer broke the protocol, with so many bytes, as they are counted: see `junkOf`. */
  readonly onJunk?: ((peerId: string, bytes: number) => void) | undefined
  /** For tests: another version than ours. */
  readonly versions?: Versions
}

export class StreamLane implements Lane {
  readonly opened: Promise<void>
  readonly #options: StreamLaneOptions
  readonly #stream: Duplex
  readonly #decoder = new FrameDecoder()
  readonly #sender: Sender
  readonly #pulse: Pulse
  readonly #requester: Requester
  readonly #responder: Responder
  readonly #closers: ((error: LinkError) => void)[] = []
  readonly #settleOpened: PromiseWithResolvers<void>
  #state: 'opening' | 'open' | 'closed' = 'opening'
  #use: Use | undefined
  #error: LinkError | undefined
  #timer: Disposable | undefined
  #deadline: Disposable | undefined
  /** Because of what waits for its taker; and until the next turn of the loop, because of what came in this one. */
  #paused = false
  #hasTakenItsTurn = false
  #bytesOfTurn = 0
  #receivedBytes = 0

  constructor(stream: Duplex, options: StreamLaneOptions) {
    this.#options = options
    this.#stream = stream
    this.#use = options.use
    this.#settleOpened = Promise.withResolvers<void>()
    this.opened = this.#settleOpened.promise
    this.opened.catch(() => {})
    this.#sender = new Sender(stream)
    this.#pulse = new Pulse(this.#sender)
    this.#requester = new Requester({
      sender: this.#sender,
      flow: (full) => this.#flow(full),
      broken: (error) => this.#fail(error),
    })
    const { peerId, handlers, log } = options
    this.#responder = new Responder({ peerId, handlers, log, sender: this.#sender })

    stream.on('error', (error) => this.#fail(lost(`the connection broke: ${error.message}`, error)))
    stream.on('close', () => this.#fail(lost('the connection was closed')))
    stream.on('end', () => this.#fail(lost('the peer closed the connection')))
    this.#deadline = options.clock.after(helloDeadlineMs, () =>
      this.#fail(lost(`the peer said no hello within ${helloDeadlineMs / 1000} s`)),
    )
    this.#schedule()
    if (options.use) this.#sendHello(options.use)
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

  get purpose(): Purpose {
    return this.#use?.purpose ?? 'control'
  }

  get stripe(): number {
    return this.#use?.stripe ?? 0
  }

  get outstanding(): number {
    return this.#requester.outstanding + this.#responder.outstanding
  }

  call(method: string, params: object, signal: AbortSignal): Promise<unknown> {
    return this.#requester.call(method, params, signal)
  }

  callForBody(method: string, params: object, maximumBytes: number, signal: AbortSignal): Promise<LongAnswer> {
    return this.#requester.callForBody(method, params, maximumBytes, signal)
  }

  fetch(request: FetchRequest, urgency: Urgency, signal: AbortSignal): AsyncIterableIterator<Piece> {
    return this.#requester.fetch(request, urgency, signal)
  }

  get isSilent(): boolean {
    return this.#pulse.isSilent
  }

  onSilence(listener: () => void): void {
    this.#pulse.onSilence(listener)
  }

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

  #sendHello(use: Use): void {
    const hello: HelloMessage = { ...this.#versions, ...use, features: [] }
    this.#sender.push(encodeJson('hello', 0, hello))
  }

  #receive(chunk: Buffer): void {
    if (this.#state === 'closed') return
    this.#pulse.heard()
    this.#receivedBytes += chunk.length
    this.#bytesOfTurn += chunk.length
    if (this.#bytesOfTurn >= turnBytes) this.#awaitTurn()
    try {
      this.#decoder.push(chunk, (frame) => {
        if (!this.#error) this.#handle(frame)
      })
    } catch (error) {
      this.#fail(error instanceof LinkError ? error : new LinkError('protocol', 'a frame failed', { cause: error }))
    }
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
        this.#greet(frame.json)
        break
      case 'ping':
        this.#pulse.answer()
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

  #greet(json: object): void {
    const { use } = this.#options
    const { purpose, ...versions } = parseMessage(anyHelloMessage, json, 'hello')
    const why = incompatibility(versions, this.#versions)
    if (why) {
      if (!use) this.#sendHello({ purpose, stripe: 0 }) // From which the peer knows it too.
      this.#fail(new LinkError('incompatible', why), { linger: true })
      return
    }
    const said = parseMessage(helloMessage, json, 'hello')
    if (use && (said.purpose !== use.purpose || said.stripe !== use.stripe)) {
      throw new LinkError('protocol', `the peer answered a lane for ${named(use)} with one for ${named(said)}`)
    }
    this.#use = { purpose: said.purpose, stripe: said.stripe }
    if (!use) this.#sendHello(this.#use)
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
    this.#pulse.count(!this.#paused)
    if (this.#pulse.isDead) {
      this.#fail(lost(`nothing was heard from the peer for ${(deadTicks * tickMs) / 1000} s`))
      return
    }
    try {
      if (!this.#paused) this.#requester.tick()
    } catch (error) {
      this.#fail(error as LinkError)
      return
    }
    this.#pulse.beat()
  }

  #flow(full: boolean): void {
    this.#paused = full
    if (this.#state === 'closed') return
    if (full) this.#stream.pause()
    else if (!this.#hasTakenItsTurn) this.#stream.resume()
  }

  /** Reads on in a later turn of the loop: what came begins to be hashed, and lands, in this one. */
  #awaitTurn(): void {
    if (this.#hasTakenItsTurn) return
    this.#hasTakenItsTurn = true
    this.#stream.pause()
    const urgency = this.#use?.purpose === 'background' ? 'background' : 'demand'
    void loopTurns.next(urgency, this.#options.peerId).then(() => {
      this.#hasTakenItsTurn = false
      this.#bytesOfTurn = 0
      if (this.#state !== 'closed' && !this.#paused) this.#stream.resume()
    })
  }

  #fail(error: LinkError, { linger = false } = {}): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#error = error
    if (error.code === 'protocol') this.#options.onJunk?.(this.#options.peerId, junkOf(this.#receivedBytes))
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

/**
 * What a lane that broke the protocol counts for: a frame at most, for what came before was good; and for no less than it costs
 * to open one.
 */
function junkOf(receivedBytes: number): number {
  return Math.min(maximumPieceBytes, Math.max(leastJunkBytes, receivedBytes))
}

function named({ purpose, stripe }: Use): string {
  return `stripe ${stripe} of ${purpose}`
}

function lost(message: string, cause?: unknown): LinkError {
  return new LinkError('lost', message, { cause })
}
