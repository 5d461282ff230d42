// Has one request after the other done by the export's handle, and answers it. Offsets and lengths were checked before.
// Always: a read's bytes are there before its header is; exactly one answer and one `onAnswered` for each request, in
// whatever order the handle finishes; a handle is not called with a length of 0.

import { Command, CommandFlag } from './constants.ts'
import type { MaybePromise, StatusExtent } from './export.ts'
import type { Agreement } from './negotiation.ts'
import { type Output, packedReplyMaxBytes } from './output.ts'
import { checkedExtents, type ReplyContext, replyBlockStatus, replyDone, replyError } from './replies.ts'
import { writeReadHead } from './reply-writers.ts'
import { holeProbeExtents, holeProbeMinBytes, readSegments, type Segment, segmentsOf } from './structured-read.ts'
import type { Request } from './transmission-codecs.ts'

export interface RequestRunnerOptions {
  readonly agreement: Agreement
  readonly output: Output
  readonly context: ReplyContext
  readonly extentLimit: number
  /** `countedBytes` as given to run(); `wasInFlight` if the handle did not answer at once. */
  onAnswered(countedBytes: number, wasInFlight: boolean): void
}

export class RequestRunner {
  readonly #options: RequestRunnerOptions
  readonly #output: Output
  #inFlightRequests = 0
  #inFlightBytes = 0

  constructor(options: RequestRunnerOptions) {
    this.#options = options
    this.#output = options.output
  }

  get inFlightRequests(): number {
    return this.#inFlightRequests
  }

  /** One request alone may be as large as it likes. */
  hasRoomFor(bytes: number, limitBytes: number): boolean {
    return this.#inFlightRequests === 0 || this.#inFlightBytes + bytes <= limitBytes
  }

  run(request: Request, payload: Buffer | undefined, countedBytes: number): void {
    let pending: MaybePromise<void>
    try {
      if (request.type === Command.read && request.lengthBytes > 0) pending = this.#read(request)
      else if (request.type === Command.blockStatus) pending = this.#blockStatus(request)
      else pending = this.#plain(request, payload)
    } catch (error) {
      replyError(this.#output, this.#options.context, request, error)
      pending = undefined
    }
    if (pending === undefined) {
      this.#options.onAnswered(countedBytes, false)
      return
    }
    this.#inFlightRequests++
    this.#inFlightBytes += countedBytes
    const answered = (): void => {
      this.#inFlightRequests--
      this.#inFlightBytes -= countedBytes
      this.#options.onAnswered(countedBytes, true)
    }
    pending.then(answered, (error: unknown) => {
      replyError(this.#output, this.#options.context, request, error)
      answered()
    })
  }

  /** Everything that is answered without bytes. */
  #plain(request: Request, payload: Buffer | undefined): MaybePromise<void> {
    const pending = this.#call(request, payload)
    const { style } = this.#options.context
    if (pending === undefined) replyDone(this.#output, style, request)
    else return pending.then(() => replyDone(this.#output, style, request))
  }

  #call(request: Request, payload: Buffer | undefined): MaybePromise<void> {
    const { handle } = this.#options.agreement
    if (request.type === Command.flush) return handle.flush()
    if (request.lengthBytes === 0) return undefined
    const { flags, offset, lengthBytes } = request
    const fua = (flags & CommandFlag.fua) !== 0
    switch (request.type) {
      case Command.write:
        return handle.write(offset, payload!, fua)
      case Command.trim:
        return handle.trim(offset, lengthBytes, fua)
      case Command.cache:
        return handle.cache(offset, lengthBytes)
      case Command.writeZeroes: {
        const mayPunch = (flags & CommandFlag.noHole) === 0
        return handle.writeZeroes(offset, lengthBytes, { mayPunch, fast: (flags & CommandFlag.fastZero) !== 0, fua })
      }
      default:
        throw new Error(`command ${request.type} passed the rules, but nobody answers it`)
    }
  }

  #read(request: Request): MaybePromise<void> {
    const { agreement, context } = this.#options
    const mayHaveHoles =
      context.style.hasChunks &&
      request.lengthBytes >= holeProbeMinBytes &&
      (request.flags & CommandFlag.df) === 0 &&
      agreement.export.contexts.includes('base:allocation')
    return mayHaveHoles ? this.#readAroundHoles(request) : this.#readWhole(request)
  }

  #readWhole(request: Request): MaybePromise<void> {
    const { style } = this.#options.context
    const headBytes = style.readHeadBytes
    const replyBytes = headBytes + request.lengthBytes
    const { handle } = this.#options.agreement
    const { offset } = request
    if (replyBytes > packedReplyMaxBytes) {
      // Zeroed by the system at no cost: whatever a handle forgets to fill is not somebody's memory.
      const reply = Buffer.alloc(replyBytes)
      const pending = handle.read(offset, reply.subarray(headBytes))
      const send = (): void => {
        writeReadHead(reply, 0, style, request)
        this.#output.append(reply)
      }
      return pending === undefined ? send() : pending.then(send)
    }
    const block = this.#output.reserve(replyBytes)
    const at = this.#output.at
    const pending = handle.read(offset, block.bytes.subarray(at + headBytes, at + replyBytes))
    if (pending === undefined) {
      writeReadHead(block.bytes, at, style, request)
      this.#output.commit(replyBytes)
      return
    }
    this.#output.detach(replyBytes)
    return pending.then(
      () => {
        writeReadHead(block.bytes, at, style, request)
        this.#output.sendDetached(block, block.bytes.subarray(at, at + replyBytes))
      },
      (error: unknown) => {
        this.#output.dropDetached(block)
        throw error
      },
    )
  }

  #readAroundHoles(request: Request): MaybePromise<void> {
    const { handle } = this.#options.agreement
    const { offset, lengthBytes } = request
    const read = (segments: readonly Segment[]): MaybePromise<void> => {
      if (!segments.some((segment) => segment.isHole)) return this.#readWhole(request)
      const reply = readSegments(handle, this.#options.context.style, request, segments)
      if (Buffer.isBuffer(reply)) return this.#output.append(reply)
      return reply.then((bytes) => this.#output.append(bytes))
    }
    const extents = handle.blockStatus('base:allocation', offset, lengthBytes, holeProbeExtents)
    if (!(extents instanceof Promise)) return read(segmentsOf(offset, lengthBytes, extents))
    return extents.then((known) => read(segmentsOf(offset, lengthBytes, known)))
  }

  #blockStatus(request: Request): MaybePromise<void> {
    const { agreement, extentLimit } = this.#options
    const { contexts, handle } = agreement
    const limit = (request.flags & CommandFlag.reqOne) === 0 ? extentLimit : 1
    const check = (statuses: readonly (readonly StatusExtent[])[]): void => {
      const checked = contexts.map(({ name }, index) =>
        checkedExtents(name, statuses[index]!, request.lengthBytes, limit),
      )
      replyBlockStatus(this.#output, this.#options.context.style, request, contexts, checked)
    }
    const asked = contexts.map(({ name }) => handle.blockStatus(name, request.offset, request.lengthBytes, limit))
    if (asked.every((status) => !(status instanceof Promise))) return check(asked as (readonly StatusExtent[])[])
    return Promise.all(asked).then(check)
  }
}
