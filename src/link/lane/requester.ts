// The requests that this site made on one lane. A request keeps its id until the peer ended it, also when it was cancelled, so
// the peer is never asked for more than `maximumRequests` at once and every answer can be held against a question.
// Pieces wait here for their consumer; over `maximumBufferedBytes` of them the lane stops reading.

import type { Piece, Urgency } from '../../block/units.ts'
import { aborted, type FetchRequest, LinkError, PeerRefusal } from '../channel.ts'
import { Coverage } from '../wire/coverage.ts'
import { encodeEmpty, encodeJson, type Frame, maximumRequestId } from '../wire/frames.ts'
import { errorMessage, parseMessage, printable } from '../wire/messages.ts'
import type { Sender } from './sender.ts'

export const maximumRequests = 256
export const maximumWaitingRequests = 4096
export const maximumBufferedBytes = 16 * 1024 * 1024
/** What a waiting piece costs beside its bytes: so that many small ones are bounded as well. */
const pieceCostBytes = 256
/** Ticks of the lane (a second each) in which the peer must end a request that was cancelled. */
export const cancelledTicks = 120

type End = { readonly value: unknown } | { readonly error: LinkError | PeerRefusal }

interface Request {
  readonly id: number
  /** undefined: a call. */
  readonly coverage: Coverage | undefined
  readonly pieces: Piece[]
  end: End | undefined
  wake: () => void
  cancelledFor: number | undefined
}

export class Requester {
  readonly #sender: Sender
  readonly #flow: (full: boolean) => void
  readonly #requests = new Map<number, Request>()
  readonly #waiting: (() => void)[] = []
  #lastId = 0
  #bufferedBytes = 0
  #error: LinkError | undefined

  /** `flow` is told when too many bytes wait here, and when there is room again. */
  constructor(sender: Sender, flow: (full: boolean) => void) {
    this.#sender = sender
    this.#flow = flow
  }

  get outstanding(): number {
    return this.#requests.size
  }

  async call(method: string, params: object, signal: AbortSignal): Promise<unknown> {
    const request = await this.#open(undefined, signal)
    try {
      await this.#send(request, encodeJsonOrThrow(request, this, 'call', { method, params }), signal)
      while (!request.end) await this.#change(request, signal)
      if ('error' in request.end) throw request.end.error
      return request.end.value
    } finally {
      this.#leave(request)
    }
  }

  async *fetch(asked: FetchRequest, urgency: Urgency, signal: AbortSignal): AsyncGenerator<Piece> {
    const { migration, disk, generation } = asked
    const runs = asked.runs.map(({ offset, length }) => [offset, length])
    const request = await this.#open(new Coverage(asked.runs), signal)
    try {
      await this.#send(
        request,
        encodeJsonOrThrow(request, this, 'fetch', { migration, disk, generation, urgency, runs }),
        signal,
      )
      for (;;) {
        const piece = request.pieces.shift()
        if (piece) {
          this.#buffered(-cost(piece))
          yield piece
          if (signal.aborted) throw aborted(signal)
          continue
        }
        if (request.end) {
          if ('error' in request.end) throw request.end.error
          return
        }
        await this.#change(request, signal)
      }
    } finally {
      this.#leave(request)
    }
  }

  /** Throws LinkError 'protocol' for an answer to nothing, or of the wrong kind. */
  receive(frame: Frame): void {
    const request = this.#requests.get(frame.id)
    if (!request) throw new LinkError('protocol', `the peer answered request ${frame.id}, which was not made`)
    if (frame.type === 'piece') {
      if (!request.coverage) throw new LinkError('protocol', 'the peer answered a call with a piece')
      request.coverage.add(frame.piece)
      if (request.cancelledFor !== undefined) return
      request.pieces.push(frame.piece)
      this.#buffered(cost(frame.piece))
      request.wake()
      return
    }
    this.#finish(request, this.#endOf(request, frame))
  }

  /** Once a second: a peer that does not end what was cancelled would use up the ids. */
  tick(): void {
    for (const request of this.#requests.values()) {
      if (request.cancelledFor === undefined || ++request.cancelledFor < cancelledTicks) continue
      throw new LinkError(
        'protocol',
        `the peer did not end request ${request.id} for ${cancelledTicks} s after its cancel`,
      )
    }
  }

  /** The lane broke: what came before can still be consumed, then every request throws `error`. */
  fail(error: LinkError): void {
    this.#error ??= error
    for (const request of [...this.#requests.values()]) this.#finish(request, { error: this.#error })
    for (const go of this.#waiting.splice(0)) go()
  }

  /** Ends a request of which the peer never heard. */
  forget(request: { readonly id: number }): void {
    this.#requests.delete(request.id)
    this.#waiting.shift()?.()
  }

  #endOf(request: Request, frame: Frame): End {
    if (frame.type === 'error') {
      const { code, message, facts } = parseMessage(errorMessage, frame.json, 'error')
      return { error: new PeerRefusal(printable(code), printable(message), facts) }
    }
    if (frame.type === 'reply' && !request.coverage) return { value: frame.json }
    if (frame.type !== 'done' || !request.coverage) {
      throw new LinkError('protocol', `the peer ended request ${frame.id} with ${frame.type}`)
    }
    if (request.coverage.complete) return { value: undefined }
    const missing = request.coverage.firstMissing
    throw new LinkError('protocol', `the peer ended a fetch without the bytes at ${missing}`)
  }

  #finish(request: Request, end: End): void {
    request.end = end
    this.forget(request)
    request.wake()
  }

  async #open(coverage: Coverage | undefined, signal: AbortSignal): Promise<Request> {
    if (signal.aborted) throw aborted(signal)
    while (!this.#error && this.#requests.size >= maximumRequests) await this.#slot(signal)
    if (this.#error) throw this.#error
    do this.#lastId = this.#lastId === maximumRequestId ? 1 : this.#lastId + 1
    while (this.#requests.has(this.#lastId))
    const request: Request = {
      id: this.#lastId,
      coverage,
      pieces: [],
      end: undefined,
      wake: () => {},
      cancelledFor: undefined,
    }
    this.#requests.set(request.id, request)
    return request
  }

  #slot(signal: AbortSignal): Promise<void> {
    if (this.#waiting.length >= maximumWaitingRequests) {
      return Promise.reject(new LinkError('overloaded', `over ${maximumWaitingRequests} requests wait for this lane`))
    }
    return new Promise((resolve, reject) => {
      const go = () => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      }
      const onAbort = () => {
        const index = this.#waiting.indexOf(go)
        if (index >= 0) this.#waiting.splice(index, 1)
        reject(aborted(signal))
      }
      signal.addEventListener('abort', onAbort, { once: true })
      this.#waiting.push(go)
    })
  }

  async #send(request: Request, bytes: Buffer, signal: AbortSignal): Promise<void> {
    try {
      await this.#sender.send([bytes], signal)
    } catch (error) {
      if (!request.end) this.#finish(request, { error: error as LinkError })
      throw error
    }
  }

  /** Resolves at the request's next piece or end; rejects when `signal` aborts. */
  #change(request: Request, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = () => reject(aborted(signal))
      if (signal.aborted) {
        onAbort()
        return
      }
      signal.addEventListener('abort', onAbort, { once: true })
      request.wake = () => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      }
    })
  }

  /** The consumer is gone: the peer hears of it, and what waits is let go. */
  #leave(request: Request): void {
    for (const piece of request.pieces.splice(0)) this.#buffered(-cost(piece))
    if (request.end) return
    request.cancelledFor = 0
    this.#sender.push(encodeEmpty('cancel', request.id))
  }

  #buffered(changeBytes: number): void {
    const before = this.#bufferedBytes
    this.#bufferedBytes += changeBytes
    const [low, high] = [maximumBufferedBytes / 2, maximumBufferedBytes]
    if (before < high && this.#bufferedBytes >= high) this.#flow(true)
    if (before > low && this.#bufferedBytes <= low) this.#flow(false)
  }
}

function cost(piece: Piece): number {
  return pieceCostBytes + (piece.bytes?.length ?? 0)
}

/** A message that is too large is the caller's error, and the peer never hears of the request. */
function encodeJsonOrThrow(request: Request, requester: Requester, type: 'call' | 'fetch', json: object): Buffer {
  try {
    return encodeJson(type, request.id, json)
  } catch (error) {
    request.end = { value: undefined }
    requester.forget(request)
    throw error
  }
}
