// The transmission phase of one connection: takes requests out of what arrives, has them answered, and holds the client
// back while too much is under way. All requests in a received chunk are begun in one loop; what a handle answers at once
// costs no turn of the event loop, and all those replies leave in one write.
// Always: a payload is consumed before its request is answered; at most the limits' requests and bytes are in flight;
// after stopIntake() no request is begun; `onQuiet` comes once, when intake has stopped and nothing is in flight any more.

import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { Command, extendedRequestBytes, requestBytes } from './constants.ts'
import type { NbdError } from './export.ts'
import { Gather } from './gather.ts'
import type { NbdLimits, NbdLog } from './limits.ts'
import type { BudgetMember, MemoryBudget } from './memory-budget.ts'
import type { Agreement } from './negotiation.ts'
import { Output } from './output.ts'
import { type ReplyContext, replyError } from './replies.ts'
import { refusalOf } from './request-rules.ts'
import { RequestRunner } from './request-runner.ts'
import { decodeExtendedRequest, decodeRequest, type Request } from './transmission-codecs.ts'

export interface TransmissionOptions {
  readonly socket: Socket
  readonly agreement: Agreement
  readonly limits: NbdLimits
  readonly budget: MemoryBudget
  readonly log: NbdLog
  readonly client: string
  onDisconnect(): void
  onQuiet(): void
}

interface RefusedRequest {
  readonly request: Request
  readonly refusal: NbdError
  leftBytes: number
}

export class Transmission implements BudgetMember {
  readonly #options: TransmissionOptions
  readonly #output: Output
  readonly #runner: RequestRunner
  readonly #context: ReplyContext
  readonly #headBytes: number
  readonly #decode: typeof decodeRequest
  #chunk: Buffer = Buffer.alloc(0)
  #at = 0
  /** A request's head that came in pieces. */
  #head: Gather | undefined
  /** Decoded and allowed, but not begun. */
  #request: Request | undefined
  /** Its payload, if that came in pieces. */
  #payload: Gather | undefined
  #payloadTakenBytes = 0
  /** A refused request, whose payload goes by before the answer. */
  #skip: RefusedRequest | undefined
  #queuedTakenBytes = 0
  #isHeld = false
  #isStopped = false
  #isQuiet = false
  #isClosed = false
  #turnIsDue = false

  constructor(options: TransmissionOptions) {
    this.#options = options
    this.#output = new Output(options.socket)
    const { agreement, client, log } = options
    const { style } = agreement
    this.#context = { style, exportName: agreement.export.name, client, log }
    this.#headBytes = style.isExtended ? extendedRequestBytes : requestBytes
    this.#decode = style.isExtended ? decodeExtendedRequest : decodeRequest
    this.#runner = new RequestRunner({
      agreement,
      output: this.#output,
      context: this.#context,
      extentLimit: options.limits.extents,
      onAnswered: (lengthBytes, wasInFlight) => this.#answered(lengthBytes, wasInFlight),
    })
    options.budget.join(this)
    options.socket.on('drain', () => {
      this.#countQueued()
      this.#resume()
    })
  }

  get clientHeldBytes(): number {
    return this.#payloadTakenBytes + this.#queuedTakenBytes
  }

  /** Takes what the socket received. Throws ProtocolError: the stream is lost, the connection must be broken. */
  push(chunk: Buffer): void {
    if (this.#isStopped) return
    assert(this.#at === this.#chunk.length && !this.#isHeld)
    this.#chunk = chunk
    this.#at = 0
    this.#intake()
  }

  /** Begins no further request; those in flight finish, then `onQuiet`. */
  stopIntake(): void {
    if (this.#isStopped) return
    this.#isStopped = true
    this.#chunk = Buffer.alloc(0)
    this.#at = 0
    this.#dropPayload()
    this.#options.socket.resume()
    this.#quietIfOver()
  }

  /** The socket is gone: what it had not sent is no longer held. */
  socketClosed(): void {
    this.#isClosed = true
    this.#options.budget.give(this.#queuedTakenBytes)
    this.#queuedTakenBytes = 0
    this.#options.budget.leave(this)
    this.stopIntake()
  }

  memoryFreed(): void {
    this.#resume()
  }

  memoryDenied(): void {
    const { budget, log, client, socket } = this.#options
    log.warn({ client, bytes: this.clientHeldBytes }, 'connection dropped: it held the most memory while others waited')
    this.#dropPayload()
    budget.give(this.#queuedTakenBytes)
    this.#queuedTakenBytes = 0
    socket.destroy()
  }

  /** One batch: steps until bytes are missing or something holds this client back. */
  #intake(): void {
    const { batchRequests } = this.#options.limits
    for (let steps = 0; !this.#isStopped; steps++) {
      if (steps === batchRequests) {
        // Other connections have their turn before this one goes on.
        this.#hold()
        this.#scheduleTurn()
        break
      }
      if (this.#isFull()) {
        this.#hold()
        break
      }
      if (!this.#step()) break
    }
    this.#flush()
  }

  /** Too many requests in flight, or too many replies unread. An answer, or 'drain', ends it. */
  #isFull(): boolean {
    const { limits, socket } = this.#options
    if (this.#runner.inFlightRequests >= limits.inFlightRequests) return true
    if (this.#output.queuedBytes <= limits.outputBytes) return false
    this.#output.flush()
    return this.#output.queuedBytes > limits.outputBytes && socket.writableNeedDrain
  }

  /** One request further. False: bytes are missing, the intake has stopped, or the request is held. */
  #step(): boolean {
    if (this.#skip !== undefined) return this.#skipPayload(this.#skip)
    if (this.#request === undefined) {
      const request = this.#readHead()
      if (request === undefined) return false
      if (request.type === Command.disc) {
        // The other fields of DISC may be garbage; nobody looks at them.
        this.#options.onDisconnect()
        this.stopIntake()
        return false
      }
      const { agreement } = this.#options
      const refusal = refusalOf(request, agreement.export, agreement.contexts.length, agreement.style.isExtended)
      if (refusal !== undefined) {
        this.#skip = { request, refusal, leftBytes: request.payloadBytes }
        return this.#skipPayload(this.#skip)
      }
      this.#request = request
    }
    const request = this.#request
    if (request.type === Command.write && request.lengthBytes > 0) return this.#takeWrite(request)
    const countedBytes = request.type === Command.read ? request.lengthBytes : 0
    if (!this.#hasRoom(countedBytes)) return false
    this.#request = undefined
    this.#runner.run(request, undefined, countedBytes)
    return true
  }

  #readHead(): Request | undefined {
    if (this.#head === undefined && this.#chunk.length - this.#at >= this.#headBytes) {
      const request = this.#decode(this.#chunk, this.#at)
      this.#at += this.#headBytes
      return request
    }
    if (this.#at === this.#chunk.length) return undefined
    this.#head ??= new Gather(this.#headBytes)
    this.#at += this.#head.push(this.#chunk, this.#at)
    if (!this.#head.isComplete) return undefined
    const request = this.#decode(this.#head.bytes, 0)
    this.#head = undefined
    return request
  }

  #skipPayload(skip: RefusedRequest): boolean {
    const skippedBytes = Math.min(skip.leftBytes, this.#chunk.length - this.#at)
    this.#at += skippedBytes
    skip.leftBytes -= skippedBytes
    if (skip.leftBytes > 0) return false
    this.#skip = undefined
    replyError(this.#output, this.#context, skip.request, skip.refusal)
    return true
  }

  #takeWrite(request: Request): boolean {
    const { lengthBytes } = request
    if (this.#payload === undefined) {
      if (this.#chunk.length - this.#at >= lengthBytes) {
        if (!this.#hasRoom(lengthBytes)) return false
        // The socket never touches a chunk again: the handle gets the bytes where they lie.
        const source = this.#chunk.subarray(this.#at, this.#at + lengthBytes)
        this.#at += lengthBytes
        this.#request = undefined
        this.#runner.run(request, source, lengthBytes)
        return true
      }
      if (!this.#runner.hasRoomFor(lengthBytes, this.#options.limits.inFlightBytes)) return this.#hold()
      const payload = new Gather(lengthBytes)
      if (!this.#countPayload(payload.capacityBytes)) return false
      this.#payload = payload
    }
    const payload = this.#payload
    const grownBytes = payload.capacityFor(this.#chunk.length - this.#at) - payload.capacityBytes
    if (grownBytes > 0 && !this.#countPayload(grownBytes)) return false
    this.#at += payload.push(this.#chunk, this.#at)
    if (!payload.isComplete) return false
    this.#payload = undefined
    this.#payloadTakenBytes = 0 // From here on these bytes are the request's, which is in flight.
    this.#request = undefined
    this.#runner.run(request, payload.bytes, lengthBytes)
    return true
  }

  #countPayload(bytes: number): boolean {
    if (!this.#options.budget.tryTake(this, bytes)) return this.#hold()
    this.#payloadTakenBytes += bytes
    return true
  }

  #dropPayload(): void {
    this.#payload = undefined
    this.#options.budget.give(this.#payloadTakenBytes)
    this.#payloadTakenBytes = 0
  }

  /** Counts a request's bytes, or holds the client back until an answer makes room. */
  #hasRoom(bytes: number): boolean {
    if (bytes === 0) return true
    const { budget, limits } = this.#options
    if (!this.#runner.hasRoomFor(bytes, limits.inFlightBytes)) return this.#hold()
    return budget.tryTake(this, bytes) || this.#hold()
  }

  #hold(): false {
    if (!this.#isHeld) {
      this.#isHeld = true
      this.#options.socket.pause()
    }
    return false
  }

  #resume(): void {
    if (!this.#isHeld || this.#isStopped) return
    this.#isHeld = false
    try {
      this.#intake()
    } catch (error) {
      // Not under the socket's 'data' here: hand the failure to the same place.
      this.#options.socket.destroy(error as Error)
      return
    }
    if (!this.#isHeld && !this.#isStopped) this.#options.socket.resume()
  }

  #answered(lengthBytes: number, wasInFlight: boolean): void {
    this.#options.budget.give(lengthBytes)
    if (!wasInFlight) return
    this.#scheduleTurn()
    if (this.#isStopped) this.#quietIfOver()
  }

  /** Replies that come one by one leave together, and whatever was held goes on, at the end of this turn of the loop. */
  #scheduleTurn(): void {
    if (this.#turnIsDue) return
    this.#turnIsDue = true
    setImmediate(() => {
      this.#turnIsDue = false
      this.#resume()
      this.#flush()
    })
  }

  #flush(): void {
    this.#output.flush()
    this.#countQueued()
  }

  #countQueued(): void {
    if (this.#isClosed || this.#options.socket.destroyed) return
    const { budget, socket } = this.#options
    const grownBytes = socket.writableLength - this.#queuedTakenBytes
    if (grownBytes === 0) return
    if (grownBytes > 0) budget.take(grownBytes)
    else budget.give(-grownBytes)
    this.#queuedTakenBytes += grownBytes
  }

  #quietIfOver(): void {
    if (this.#isQuiet || this.#runner.inFlightRequests > 0) return
    this.#isQuiet = true
    this.#flush()
    this.#options.onQuiet()
  }
}
