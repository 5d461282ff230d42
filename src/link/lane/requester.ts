// The requests that this site made on one lane. A request keeps its id until the peer ended it, also when it was cancelled, so
// the peer is never asked for more than `maximumRequests` at once and every answer can be held against a question.
// Pieces and parts wait here for their consumer, and are held against their digests meanwhile; over `maximumBufferedBytes` of
// them the lane stops reading.

import type { Piece, Urgency } from '../../block/units.ts'
import { aborted, type FetchRequest, LinkError, type LongAnswer, PeerRefusal } from '../channel.ts'
import { Coverage } from '../wire/coverage.ts'
import { encodeEmpty, encodeJson, type Frame, maximumRequestId } from '../wire/frames.ts'
import { errorMessage, parseMessage, printable } from '../wire/messages.ts'
import { type Expected, ExpectedBody, ExpectedPieces, ExpectedReply, type Item } from './expected.ts'
import { Incoming } from './incoming.ts'
import type { Sender } from './sender.ts'

export const maximumRequests = 256
export const maximumWaitingRequests = 4096
export const maximumBufferedBytes = 16 * 1024 * 1024
/** Ticks of the lane (a second each) in which the peer must end a request that was cancelled. */
export const cancelledTicks = 120

interface Waiting<Value> {
  readonly costBytes: number
  readonly value: Promise<Value>
}

interface Request<Value> {
  readonly id: number
  readonly expected: Expected<Value>
  readonly items: Waiting<Value>[]
  /** The answer of a call. */
  head: object | undefined
  /** `error` undefined: all has come. */
  end: { readonly error: LinkError | PeerRefusal | undefined } | undefined
  wake: () => void
  cancelledFor: number | undefined
}

export interface RequesterOptions {
  readonly sender: Sender
  /** Too many bytes wait here, or there is room again. */
  readonly flow: (full: boolean) => void
  /** The peer sent bytes that are not what their digest says. */
  readonly broken: (error: LinkError) => void
}

export class Requester {
  readonly #options: RequesterOptions
  // Of whatever values: each is handed to whoever made the request.
  readonly #requests = new Map<number, Request<unknown>>()
  readonly #waiting: (() => void)[] = []
  #lastId = 0
  #bufferedBytes = 0
  #error: LinkError | undefined

  constructor(options: RequesterOptions) {
    this.#options = options
  }

  get outstanding(): number {
    return this.#requests.size
  }

  async call(method: string, params: object, signal: AbortSignal): Promise<unknown> {
    const request = await this.#begin(new ExpectedReply(), 'call', { method, params }, signal)
    try {
      return await this.#head(request, signal)
    } finally {
      this.#leave(request)
    }
  }

  async callForBody(method: string, params: object, maximumBytes: number, signal: AbortSignal): Promise<LongAnswer> {
    const json = { method, params, bodyBytes: maximumBytes }
    const request = await this.#begin(new ExpectedBody(maximumBytes), 'call', json, signal)
    const body = new Incoming({
      next: () => this.#next(request, signal),
      leave: () => this.#leave(request),
      // Nobody may be reading when it is given up.
      signal,
    })
    try {
      return { answer: await this.#head(request, signal), body }
    } catch (error) {
      await body.return()
      throw error
    }
  }

  fetch(asked: FetchRequest, urgency: Urgency, signal: AbortSignal): AsyncIterableIterator<Piece> {
    let request: Request<Piece> | undefined
    return new Incoming({
      next: async () => {
        request ??= await this.#beginFetch(asked, urgency, signal)
        return this.#next(request, signal)
      },
      leave: () => {
        if (request) this.#leave(request)
      },
    })
  }

  #beginFetch(asked: FetchRequest, urgency: Urgency, signal: AbortSignal): Promise<Request<Piece>> {
    const { migration, disk, generation } = asked
    const runs = asked.runs.map(({ offset, length }) => [offset, length])
    const expected = new ExpectedPieces(new Coverage(asked.runs), urgency)
    return this.#begin(expected, 'fetch', { migration, disk, generation, urgency, runs }, signal)
  }

  /** Throws LinkError 'protocol' for an answer to nothing, or of the wrong kind. */
  receive(frame: Frame): void {
    const request = this.#requests.get(frame.id)
    if (!request) throw new LinkError('protocol', `the peer answered request ${frame.id}, which was not made`)
    if (frame.type === 'error') {
      const { code, message, facts } = parseMessage(errorMessage, frame.json, 'error')
      this.#finish(request, new PeerRefusal(printable(code), printable(message), facts))
      return
    }
    const { head, item, isEnd } = request.expected.take(frame)
    if (head) request.head = head
    if (item && request.cancelledFor === undefined) this.#keep(request, item)
    if (isEnd) this.#finish(request, undefined)
    else request.wake()
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
    for (const request of [...this.#requests.values()]) this.#finish(request, this.#error)
    for (const go of this.#waiting.splice(0)) go()
  }

  #finish(request: Request<unknown>, error: LinkError | PeerRefusal | undefined): void {
    request.end = { error }
    this.#requests.delete(request.id)
    this.#waiting.shift()?.()
    request.wake()
  }

  /** The digest is looked at from now on, not first when the consumer comes. */
  #keep(request: Request<unknown>, { costBytes, open }: Item<unknown>): void {
    const value = open()
    value.catch((error: LinkError) => this.#options.broken(error))
    request.items.push({ costBytes, value })
    this.#buffered(costBytes)
  }

  async #begin<Value>(
    expected: Expected<Value>,
    type: 'call' | 'fetch',
    json: object,
    signal: AbortSignal,
  ): Promise<Request<Value>> {
    if (signal.aborted) throw aborted(signal)
    while (!this.#error && this.#requests.size >= maximumRequests) await this.#slot(signal)
    if (this.#error) throw this.#error
    do this.#lastId = this.#lastId === maximumRequestId ? 1 : this.#lastId + 1
    while (this.#requests.has(this.#lastId))
    const id = this.#lastId
    // A message that is too large is the caller's error, and the peer never hears of the request.
    const frame = this.#encoded(type, id, json)
    const state = { head: undefined, end: undefined, wake: () => {}, cancelledFor: undefined }
    const request: Request<Value> = { id, expected, items: [], ...state }
    this.#requests.set(id, request)
    try {
      await this.#options.sender.send([frame], signal)
    } catch (error) {
      if (!request.end) this.#finish(request, error as LinkError)
      throw error
    }
    return request
  }

  #encoded(type: 'call' | 'fetch', id: number, json: object): Buffer {
    try {
      return encodeJson(type, id, json)
    } catch (error) {
      this.#waiting.shift()?.() // Whoever waits for the id.
      throw error
    }
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

  async #head(request: Request<unknown>, signal: AbortSignal): Promise<object> {
    while (!request.head && !request.end) await this.#change(request, signal)
    if (!request.head) throw request.end!.error!
    return request.head
  }

  /** undefined: all has come. Each item is counted until it is handed over. */
  async #next<Value>(request: Request<Value>, signal: AbortSignal): Promise<Value | undefined> {
    for (;;) {
      if (signal.aborted) throw aborted(signal)
      const item = request.items.shift()
      if (item) {
        try {
          return await item.value
        } finally {
          this.#buffered(-item.costBytes)
        }
      }
      if (request.end?.error) throw request.end.error
      if (request.end) return undefined
      await this.#change(request, signal)
    }
  }

  /** Resolves at the request's next item or end; rejects when `signal` aborts. */
  #change(request: Request<unknown>, signal: AbortSignal): Promise<void> {
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
  #leave(request: Request<unknown>): void {
    for (const { costBytes } of request.items.splice(0)) this.#buffered(-costBytes)
    if (request.end || request.cancelledFor !== undefined) return
    request.cancelledFor = 0
    this.#options.sender.push(encodeEmpty('cancel', request.id))
  }

  #buffered(changeBytes: number): void {
    const before = this.#bufferedBytes
    this.#bufferedBytes += changeBytes
    const [low, high] = [maximumBufferedBytes / 2, maximumBufferedBytes]
    if (before < high && this.#bufferedBytes >= high) this.#options.flow(true)
    if (before > low && this.#bufferedBytes <= low) this.#options.flow(false)
  }
}
