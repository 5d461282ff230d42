// The transmission phase of one connection: takes requests out of what arrives, has them answered, and holds the client
// back while too much is under way. All requests in what arrived are begun in one loop; what a handle answers at once
// costs no turn of the event loop, and all those replies leave in one write. Long reads and writes go piece by piece, so
// that neither their memory nor their time grows with the length that a client asks for.
// Always: a payload is consumed before its request is answered; at most the limits' requests and bytes are in flight;
// after stopIntake() no request is begun; `onQuiet` comes once, when intake has stopped and nothing is in flight any more.

import { BlockLease, type BlockPool, pieceBytes } from '../../guest/blocks.ts'
import type { ServerLog } from '../../guest/log.ts'
import type { BudgetMember, MemoryBudget } from '../../guest/memory-budget.ts'
import { freeSteps, pieceSteps, pooledSteps, statusSteps, type TurnShare } from '../../guest/turn-share.ts'
import { headroomBytes, type Wire } from '../../guest/wire.ts'
import { Command, extendedRequestBytes, requestBytes } from '../wire/constants.ts'
import type { NbdError } from '../wire/error-values.ts'
import { refusalOf } from '../wire/request-rules.ts'
import { decodeExtendedRequest, decodeRequest, type Request } from '../wire/transmission-codecs.ts'
import { Input } from './input.ts'
import type { LargeRead } from './large-read.ts'
import type { NbdLimits } from './limits.ts'
import type { Agreement } from './negotiation.ts'
import { Output } from './output.ts'
import { PayloadWriter } from './payload-writer.ts'
import { RequestRunner } from './request-runner.ts'
import type { Tally } from './tally.ts'

export interface TransmissionOptions {
  readonly wire: Wire
  readonly agreement: Agreement
  readonly limits: NbdLimits
  readonly pool: BlockPool
  readonly budget: MemoryBudget
  readonly share: TurnShare
  readonly log: ServerLog
  readonly client: string
  readonly tally: Tally
  onDisconnect(): void
  /** After clientEnded(): all that had arrived has been begun. */
  onAllBegun(): void
  /** The connection must be broken: what receive() would have thrown, later. */
  onFailure(error: unknown): void
  onQuiet(): void
}

interface RefusedRequest {
  readonly request: Request
  readonly refusal: NbdError
  leftBytes: number
}

export class Transmission implements BudgetMember {
  readonly #options: TransmissionOptions
  readonly #wire: Wire
  readonly #input: Input
  readonly #output: Output
  readonly #runner: RequestRunner
  readonly #payloads: PayloadWriter
  readonly #headBytes: number
  readonly #decode: typeof decodeRequest
  /** Long reads that have pieces to begin. */
  readonly #reads: LargeRead[] = []
  /** Decoded and allowed, but not begun. */
  #request: Request | undefined
  /** A refused request, whose payload goes by before the answer. */
  #skip: RefusedRequest | undefined
  #isInIntake = false
  #isHeld = false
  #hasClientEnded = false
  #isStopped = false
  #isGone = false
  #isQuiet = false
  #turnIsDue = false
  #isAwaitingShare = false
  /** Of this turn of the event loop, in which one socket may be read many times. */
  #steps = 0

  constructor(options: TransmissionOptions) {
    this.#options = options
    const { agreement, client, log, wire, pool, budget, limits, share } = options
    const { style } = agreement
    this.#wire = wire
    this.#headBytes = style.isExtended ? extendedRequestBytes : requestBytes
    this.#decode = style.isExtended ? decodeExtendedRequest : decodeRequest
    this.#input = new Input(budget, pool)
    const lease = (maxBytes: number): BlockLease => new BlockLease(pool, budget, this, maxBytes)
    this.#output = new Output(wire, lease(limits.inFlightBytes), () => this.#resume())
    this.#runner = new RequestRunner({
      agreement,
      output: this.#output,
      context: { style, exportName: agreement.export.name, client, log },
      extentLimit: limits.extents,
      share,
      onAnswered: () => this.#answered(),
      onLatePiece: () => this.#scheduleTurn(),
      onLargeRead: (read) => this.#begun(read),
    })
    this.#payloads = new PayloadWriter(agreement.handle, this.#runner, lease(limits.payloadBytes))
    budget.join(this)
  }

  /** Requests that are begun and not answered. */
  get inFlight(): number {
    return this.#runner.inFlight
  }

  get clientHeldBytes(): number {
    return this.#wire.queuedBytes + this.#input.keptBytes
  }

  /**
   * Takes what the socket received, [from, to) of `bytes`, which last for the time of the call; what lies before `from`
   * may be overwritten. Throws ProtocolError: the stream is lost, the connection must be broken.
   */
  receive(bytes: Buffer, from: number, to: number): void {
    if (this.#isStopped) return
    this.#input.push(bytes, from, to)
    if (!this.#isHeld) this.#intake()
    // Nothing more was waiting in the kernel: what comes next comes in another turn.
    if (to < bytes.length) this.#steps = 0
    this.#input.keep()
  }

  /** Nothing more will arrive. What is held back waits still: TLS tells of the end while bytes before it are not used up. */
  clientEnded(): void {
    this.#hasClientEnded = true
    if (!this.#isHeld) this.#options.onAllBegun()
  }

  /** Begins no further request; those in flight finish, then `onQuiet`. */
  stopIntake(): void {
    if (this.#isStopped) return
    this.#isStopped = true
    this.#input.clear()
    this.#payloads.abandon()
    this.#wire.resume()
    this.#quietIfOver()
  }

  /** The socket is gone: what it had not sent is no longer held. */
  socketClosed(): void {
    this.#isGone = true
    this.#options.budget.leave(this)
    this.stopIntake()
    for (const read of this.#reads.splice(0)) read.abandon()
    this.#output.flush()
  }

  memoryFreed(): void {
    this.#resume()
  }

  memoryDenied(): void {
    const { log, client } = this.#options
    log.warn({ client, bytes: this.clientHeldBytes }, 'connection dropped: it held the most memory while others waited')
    this.#input.clear()
    this.#wire.destroy()
  }

  /** One batch: steps until bytes are missing or something holds this client back. */
  #intake(): void {
    const { share } = this.#options
    this.#isInIntake = true
    try {
      while (!this.#isStopped || this.#reads.length > 0) {
        if (this.#steps >= this.#stepsOfTurn()) {
          // Other connections have their turn before this one goes on.
          this.#hold()
          this.#scheduleTurn()
          break
        }
        if (!this.#isMidPayload && this.#isFull()) {
          this.#hold()
          break
        }
        const isDear = this.#reads.length > 0 || this.#payloads.isBusy
        if (share.isSpent && (isDear || this.#steps >= freeSteps)) {
          this.#hold()
          this.#awaitShare()
          break
        }
        const from = this.#input.at
        if (!this.#step()) break
        const steps = isDear ? pieceSteps : 1
        this.#steps += steps
        share.spend(Math.max(steps, ((this.#input.at - from) * pieceSteps) / pieceBytes))
        // While it is still in the processor's cache.
        if (this.#output.unsentBytes >= pieceBytes) this.#output.flush()
      }
    } finally {
      this.#isInIntake = false
    }
    this.#output.flush()
    this.#payloads.releaseUnused()
    if (this.#isStopped) this.#quietIfOver()
  }

  /** Payloads that have arrived are rather used up than copied to be kept, within the double of a turn. */
  #stepsOfTurn(): number {
    const { batchRequests } = this.#options.limits
    return this.#input.availableBytes > headroomBytes ? 2 * batchRequests : batchRequests
  }

  /** The rest of a payload takes no further room of its own. */
  get #isMidPayload(): boolean {
    return this.#payloads.isBusy && this.#reads.length === 0
  }

  /** Too many requests in flight, or too many replies unread. An answer, or a reply that leaves, ends it. */
  #isFull(): boolean {
    const { limits } = this.#options
    if (this.#reads.length === 0 && this.#runner.inFlight >= limits.inFlightRequests) return true
    if (this.#output.queuedBytes <= limits.outputBytes) return false
    this.#output.flush()
    return this.#output.queuedBytes > limits.outputBytes
  }

  /** One request, or one piece of a long one, further. False: bytes are missing, the intake has stopped, or it is held. */
  #step(): boolean {
    if (this.#reads.length > 0) return this.#readOn(this.#reads[0]!)
    if (this.#skip !== undefined) return this.#skipPayload(this.#skip)
    if (this.#payloads.isBusy) return this.#writeOn()
    this.#request ??= this.#nextRequest()
    const request = this.#request
    if (request === undefined) return this.#skip !== undefined
    if (request.type === Command.write && request.lengthBytes > 0) {
      this.#request = undefined
      this.#options.tally.count(request)
      this.#payloads.begin(request)
      return this.#writeOn()
    }
    if (!this.#runner.hasRoomFor(request)) {
      this.#output.flush()
      if (!this.#runner.hasRoomFor(request)) return this.#hold()
    }
    this.#request = undefined
    this.#options.tally.count(request)
    if (request.type === Command.blockStatus) this.#steps += statusSteps
    else if (request.type !== Command.read && request.type !== Command.flush) {
      this.#steps += pooledSteps
      this.#options.share.spend(pooledSteps)
    }
    this.#runner.run(request)
    return true
  }

  /** The next request that may reach the handle. None: bytes are missing, the intake has stopped, or one is skipped. */
  #nextRequest(): Request | undefined {
    const input = this.#input
    if (input.availableBytes < this.#headBytes) return undefined
    const request = this.#decode(input.bytes, input.at)!
    input.at += this.#headBytes
    if (request.type === Command.disc) {
      // The other fields of DISC may be garbage; nobody looks at them.
      this.#options.onDisconnect()
      this.stopIntake()
      return undefined
    }
    const { agreement } = this.#options
    const refusal = refusalOf(request, agreement.export, agreement.contexts.length, agreement.style.isExtended)
    if (refusal === undefined) return request
    this.#skip = { request, refusal, leftBytes: request.payloadBytes }
    return undefined
  }

  #skipPayload(skip: RefusedRequest): boolean {
    const skippedBytes = Math.min(skip.leftBytes, this.#input.availableBytes)
    this.#input.at += skippedBytes
    skip.leftBytes -= skippedBytes
    if (skip.leftBytes > 0) return false
    this.#skip = undefined
    this.#runner.fail(skip.request, skip.refusal)
    return true
  }

  #writeOn(): boolean {
    const outcome = this.#payloads.take(this.#input)
    return outcome === 'held' ? this.#hold() : outcome === 'taken'
  }

  #readOn(read: LargeRead): boolean {
    if (read.hasMore && !read.begin()) {
      this.#output.flush()
      if (!read.begin()) return this.#hold()
    }
    if (!read.hasMore) this.#reads.shift()
    return true
  }

  #begun(read: LargeRead): void {
    if (this.#isGone) {
      read.abandon()
      return
    }
    this.#reads.push(read)
    if (!this.#isInIntake) this.#scheduleTurn()
  }

  #hold(): false {
    if (!this.#isHeld) {
      this.#isHeld = true
      this.#wire.pause()
    }
    return false
  }

  #resume(): void {
    if (!this.#isHeld && this.#reads.length === 0) return
    const wasHeld = this.#isHeld
    this.#isHeld = false
    this.#steps = 0
    try {
      this.#intake()
      this.#input.keep()
    } catch (error) {
      // Not under the socket's event here: hand the failure to the same place.
      this.#options.onFailure(error)
      return
    }
    if (!wasHeld || this.#isHeld) return
    this.#wire.resume()
    if (this.#hasClientEnded) this.#options.onAllBegun()
  }

  #answered(): void {
    if (this.#isInIntake) return
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
      this.#output.flush()
      this.#payloads.releaseUnused()
    })
  }

  /** All connections together have done enough in this turn. */
  #awaitShare(): void {
    if (this.#isAwaitingShare) return
    this.#isAwaitingShare = true
    this.#options.share.whenRenewed(() => {
      this.#isAwaitingShare = false
      this.#resume()
      this.#output.flush()
      this.#payloads.releaseUnused()
    })
  }

  #quietIfOver(): void {
    if (this.#isQuiet || this.#isInIntake || this.#runner.inFlight > 0) return
    this.#isQuiet = true
    this.#output.flush()
    this.#payloads.releaseUnused()
    this.#options.onQuiet()
  }
}
