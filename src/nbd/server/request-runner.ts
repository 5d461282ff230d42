// Has one request after the other done by the export's handle, and answers it. Offsets and lengths were checked before.
// Always: a read's bytes are there before its header is; exactly one answer for each request, in whatever order the handle
// finishes; a handle is not called with a length of 0. Long reads are begun here and go on in the transmission's hands.

import type { MaybePromise, StatusExtent, StatusKind } from '../../guest/export.ts'
import { extentSteps, type TurnShare } from '../../guest/turn-share.ts'
import { Command, CommandFlag } from '../wire/constants.ts'
import { writeReadHead } from '../wire/reply-writers.ts'
import type { ContextExtent, Request } from '../wire/transmission-codecs.ts'
import { LargeRead } from './large-read.ts'
import { contextExtents } from './meta-contexts.ts'
import type { Agreement } from './negotiation.ts'
import type { Output } from './output.ts'
import { type ReplyContext, replyBlockStatus, replyDone, replyError } from './replies.ts'
import { holeProbeExtents, holeProbeMinBytes, type Segment, segmentsOf } from './segments.ts'

/** From here on a read is a long one. */
export const largeReadMinBytes = 64 * 1024

/** Asked of a handle at once. A file system takes up to 6 µs for each, if the file is in many pieces. */
const statusExtents = 32

export interface RequestRunnerOptions {
  readonly agreement: Agreement
  readonly output: Output
  readonly context: ReplyContext
  readonly extentLimit: number
  readonly share: TurnShare
  /** A request that was in flight has been answered. */
  onAnswered(): void
  /** Something that was in flight is in the output. */
  onLatePiece(): void
  /** A long read may begin its pieces. */
  onLargeRead(read: LargeRead): void
}

export class RequestRunner {
  readonly #options: RequestRunnerOptions
  readonly #output: Output
  #inFlight = 0

  constructor(options: RequestRunnerOptions) {
    this.#options = options
    this.#output = options.output
  }

  /** Requests, and pieces of long ones, that the handle has and has not answered. */
  get inFlight(): number {
    return this.#inFlight
  }

  /** Something went to the handle that does not pass through run(). */
  began(): void {
    this.#inFlight++
  }

  ended(): void {
    this.#inFlight--
    this.#options.onAnswered()
  }

  /** Whether there is memory for the bytes that the answer needs. */
  hasRoomFor(request: Request): boolean {
    const isPacked = request.type === Command.read && request.lengthBytes < largeReadMinBytes
    return !isPacked || this.#output.makeRoom(this.#options.context.style.readHeadBytes + request.lengthBytes)
  }

  /** Every request but WRITE with a payload. hasRoomFor() was true in the same step. */
  run(request: Request): void {
    let pending: MaybePromise<void>
    try {
      if (request.type === Command.read && request.lengthBytes > 0) pending = this.#read(request)
      else if (request.type === Command.blockStatus) pending = this.#blockStatus(request)
      else pending = this.#plain(request)
    } catch (error) {
      this.fail(request, error)
      return
    }
    if (pending === undefined) return
    this.began()
    pending.then(
      () => this.ended(),
      (error: unknown) => {
        this.fail(request, error)
        this.ended()
      },
    )
  }

  fail(request: Request, error: unknown): void {
    replyError(this.#output, this.#options.context, request, error)
  }

  succeed(request: Request): void {
    replyDone(this.#output, this.#options.context.style, request)
  }

  /** Everything that is answered without bytes. */
  #plain(request: Request): MaybePromise<void> {
    const pending = this.#call(request)
    if (pending === undefined) this.succeed(request)
    else return pending.then(() => this.succeed(request))
  }

  #call(request: Request): MaybePromise<void> {
    const { handle } = this.#options.agreement
    if (request.type === Command.flush) return handle.flush()
    if (request.lengthBytes === 0) return undefined
    const { flags, offset, lengthBytes } = request
    const fua = (flags & CommandFlag.fua) !== 0
    switch (request.type) {
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
    return request.lengthBytes < largeReadMinBytes ? this.#readPacked(request) : this.#readLarge(request)
  }

  #readPacked(request: Request): MaybePromise<void> {
    const { handle } = this.#options.agreement
    const { style } = this.#options.context
    const headBytes = style.readHeadBytes
    const replyBytes = headBytes + request.lengthBytes
    const { bytes } = this.#output.block
    const { at } = this.#output
    const pending = handle.read(request.offset, bytes.subarray(at + headBytes, at + replyBytes))
    if (pending === undefined) {
      writeReadHead(bytes, at, style, request)
      this.#output.commit(replyBytes)
      return
    }
    const block = this.#output.detach(replyBytes)
    return pending.then(
      () => {
        writeReadHead(bytes, at, style, request)
        this.#output.append(block, at, at + replyBytes)
      },
      (error: unknown) => {
        this.#output.drop(block)
        throw error
      },
    )
  }

  #readLarge(request: Request): MaybePromise<void> {
    const { agreement, context, share } = this.#options
    const { offset, lengthBytes } = request
    const isWhole = !context.style.hasChunks || (request.flags & CommandFlag.df) !== 0
    const mayHaveHoles = !isWhole && agreement.export.statuses.includes('allocation')
    if (!mayHaveHoles || lengthBytes < holeProbeMinBytes || share.isSpent) {
      return this.#readSegments(request, [{ offset, lengthBytes, isHole: false }], isWhole)
    }
    const extents = agreement.handle.blockStatus('allocation', offset, lengthBytes, holeProbeExtents)
    const read = (known: readonly StatusExtent[]): void => {
      share.spend(known.length * extentSteps)
      this.#readSegments(request, segmentsOf(offset, lengthBytes, known), isWhole)
    }
    return extents instanceof Promise ? extents.then(read) : read(extents)
  }

  #readSegments(request: Request, segments: readonly Segment[], isWhole: boolean): void {
    const { agreement, context, onLargeRead, onLatePiece } = this.#options
    this.began()
    const onOver = (failure: { readonly error: unknown } | undefined): void => {
      if (failure !== undefined) this.fail(request, failure.error)
      this.ended()
    }
    const { handle } = agreement
    const { style } = context
    onLargeRead(new LargeRead({ request, segments, style, isWhole, handle, output: this.#output, onLatePiece, onOver }))
  }

  /** One context after the other: a call that fails leaves none behind under way, and none whose failure nobody awaits. */
  #blockStatus(request: Request): MaybePromise<void> {
    const { agreement, extentLimit } = this.#options
    const { contexts } = agreement
    const limit = (request.flags & CommandFlag.reqOne) === 0 ? extentLimit : 1
    const ask = (statuses: readonly (readonly ContextExtent[])[]): MaybePromise<void> => {
      const context = contexts[statuses.length]
      if (context === undefined) {
        replyBlockStatus(this.#output, this.#options.context.style, request, contexts, statuses)
        return
      }
      const add = (status: readonly StatusExtent[]): MaybePromise<void> =>
        ask([...statuses, contextExtents(context, status, request.lengthBytes, limit)])
      const status = this.#statusOf(context.kind, request, limit)
      return status instanceof Promise ? status.then(add) : add(status)
    }
    return ask([])
  }

  /** In steps, each of which asks the handle anew: what it says holds when it says it. A short answer takes one step. */
  #statusOf(kind: StatusKind, request: Request, limit: number): MaybePromise<readonly StatusExtent[]> {
    const { agreement, share } = this.#options
    const extents: StatusExtent[] = []
    let at = request.offset
    const end = request.offset + request.lengthBytes
    /** False: there is more to ask for. */
    const add = (more: readonly StatusExtent[]): boolean => {
      share.spend(more.length * extentSteps)
      for (const extent of more) {
        extents.push(extent)
        at += extent.lengthBytes
      }
      return more.length < statusExtents || at >= end || extents.length >= limit
    }
    const ask = (): MaybePromise<readonly StatusExtent[]> =>
      agreement.handle.blockStatus(kind, at, end - at, Math.min(statusExtents, limit - extents.length))
    // A step is taken within the turn that is given for it: those that wait are let go one by one until it is used up.
    const goOn = (): Promise<readonly StatusExtent[]> =>
      new Promise((resolve, reject) => {
        const took = (more: readonly StatusExtent[]): void => (add(more) ? resolve(extents) : next())
        const step = (): void => {
          try {
            const more = ask()
            if (more instanceof Promise) more.then(took, reject)
            else took(more)
          } catch (error) {
            reject(error)
          }
        }
        const next = (): void => (share.isSpent ? share.whenRenewed(step) : step())
        next()
      })
    if (share.isSpent) return goOn()
    const first = ask()
    if (first instanceof Promise) return first.then((more) => (add(more) ? extents : goOn()))
    return add(first) ? extents : goOn()
  }
}
