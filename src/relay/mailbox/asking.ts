// The asking end of a mailbox: a PeerChannel whose requests stand in this site's letter until their answers have been read.
//
// What always holds: at most so many requests of each sort are under way, the others wait in order, and none of a guest waits
// for those in the background. A request that a new session voids fails as LinkError: whether the peer acted is not known.

import type { Piece, Urgency } from '../../block/units.ts'
import {
  aborted,
  type FetchRequest,
  LinkError,
  type LongAnswer,
  type PeerChannel,
  PeerRefusal,
} from '../../link/channel.ts'
import { Places } from '../../link/lane/places.ts'
import { Coverage } from '../../link/wire/coverage.ts'
import { SealError } from '../errors.ts'
import type { Bodies } from './bodies.ts'
import { type Answered, type Asked, longestWordsBytes, mostRequests, type Part, type PiecePlace } from './letter.ts'

const mostFetches = 8
const mostCalls = mostRequests - 2 * mostFetches

type Given = Extract<Answered, { answer?: unknown }>
type Unnumbered = Asked extends infer Each ? (Each extends { id: number } ? Omit<Each, 'id'> : never) : never

interface Waiting {
  readonly asked: Asked
  readonly answer: PromiseWithResolvers<Given>
  /** Aborts when a new session voids it. */
  readonly ended: AbortController
}

export interface AskingParts {
  readonly peerId: string
  readonly bodies: Bodies
  /** Something is to be asked, or asked no more. */
  changed(): void
}

export class Asking implements PeerChannel {
  readonly #parts: AskingParts
  readonly #places = {
    calls: new Places(mostCalls),
    demand: new Places(mostFetches),
    background: new Places(mostFetches),
  }
  readonly #waiting = new Map<number, Waiting>()
  #nextId = 1
  #isClosed = false

  constructor(parts: AskingParts) {
    this.#parts = parts
  }

  get peerId(): string {
    return this.#parts.peerId
  }

  get requests(): Asked[] {
    return [...this.#waiting.values()].map(({ asked }) => asked)
  }

  async call(method: string, params: object, { signal }: { signal: AbortSignal }): Promise<unknown> {
    using _place = await this.#places.calls.enter(signal)
    using request = this.#ask({ method, params: { ...params } }, signal)
    return (await request.answer).answer
  }

  async callForBody(
    method: string,
    params: object,
    { maximumBytes, signal }: { maximumBytes: number; signal: AbortSignal },
  ): Promise<LongAnswer> {
    const held = new DisposableStack()
    try {
      held.use(await this.#places.calls.enter(signal))
      const request = held.use(this.#ask({ method, params: { ...params }, bodyBytes: maximumBytes }, signal))
      const { answer, parts = [] } = await request.answer
      if (bytesOf(parts) > maximumBytes) throw new LinkError('protocol', `the answer to ${method} has too long a body`)
      // A body that nobody begins to read has to let go too: a generator that was not begun has no end to run.
      request.signal.addEventListener('abort', () => held.dispose(), { once: true })
      const body = this.#body(parts, 'demand', request.signal, held)
      const leave = body.return.bind(body)
      body.return = (value) => {
        held.dispose()
        return leave(value)
      }
      return { answer, body }
    } catch (error) {
      held.dispose()
      throw error
    }
  }

  async *fetch(
    { runs, ...named }: FetchRequest,
    { urgency, signal }: { urgency: Urgency; signal: AbortSignal },
  ): AsyncIterable<Piece> {
    using _place = await this.#places[urgency].enter(signal)
    const coverage = new Coverage(runs)
    const tuples = runs.map(({ offset, length }): [number, number] => [offset, length])
    using request = this.#ask({ fetch: { ...named, urgency, runs: tuples } }, signal)
    const { parts = [], pieces = [] } = await request.answer
    const reader = new PartsReader(parts, (part) => this.#read(part, urgency, request.signal))
    for (const place of pieces) {
      for await (const piece of piecesAt(place, reader)) {
        coverage.add(piece)
        yield piece
      }
    }
    if (!coverage.complete) throw new LinkError('protocol', 'the answer to a fetch does not have all of it')
  }

  /** What the other site answers now. An answer is taken once. */
  take(answers: readonly Answered[]): void {
    for (const answered of answers) {
      const waiting = this.#waiting.get(answered.id)
      if (!waiting) continue
      if ('error' in answered) {
        const { code, message, facts } = answered.error
        waiting.answer.reject(new PeerRefusal(code, message, facts))
      } else waiting.answer.resolve(answered)
    }
  }

  /** Another session: whether the peer did what was asked is not known. */
  restart(): void {
    this.#endAll(
      new LinkError('lost', 'the other site began anew, or this one did, while the request was in the mailbox'),
    )
  }

  close(): void {
    this.#isClosed = true
    this.#endAll(new LinkError('closed', 'the mailbox is closed at this site'))
  }

  #endAll(error: LinkError): void {
    for (const { answer, ended } of this.#waiting.values()) {
      answer.reject(error)
      ended.abort(error)
    }
    this.#waiting.clear()
  }

  #ask(
    wanted: Unnumbered,
    signal: AbortSignal,
  ): Disposable & { readonly answer: Promise<Given>; readonly signal: AbortSignal } {
    if (this.#isClosed) throw new LinkError('closed', 'the mailbox is closed at this site')
    if (signal.aborted) throw aborted(signal)
    if (Buffer.byteLength(JSON.stringify(wanted)) > longestWordsBytes) {
      throw new RangeError(`a request is over the bound of ${longestWordsBytes} bytes`)
    }
    const id = this.#nextId++
    const waiting: Waiting = {
      asked: { id, ...wanted } as Asked,
      answer: Promise.withResolvers(),
      ended: new AbortController(),
    }
    waiting.answer.promise.catch(() => undefined)
    const onAbort = (): void => {
      waiting.answer.reject(aborted(signal))
      waiting.ended.abort(aborted(signal))
    }
    signal.addEventListener('abort', onAbort, { once: true })
    this.#waiting.set(id, waiting)
    this.#parts.changed()
    return {
      answer: waiting.answer.promise,
      signal: waiting.ended.signal,
      [Symbol.dispose]: () => {
        signal.removeEventListener('abort', onAbort)
        if (this.#waiting.delete(id)) this.#parts.changed()
      },
    }
  }

  async *#body(
    parts: readonly Part[],
    urgency: Urgency,
    signal: AbortSignal,
    held: DisposableStack,
  ): AsyncGenerator<Uint8Array, undefined> {
    using _held = held
    for (const part of parts) yield await this.#read(part, urgency, signal)
  }

  async #read(part: Part, urgency: Urgency, signal: AbortSignal): Promise<Uint8Array> {
    try {
      return await this.#parts.bodies.get(part, { urgency, signal })
    } catch (error) {
      if (error instanceof LinkError) throw error
      const why = error instanceof SealError ? error.message : 'the bytes of an answer could not be read from the relay'
      throw new LinkError('lost', why, { cause: error })
    }
  }
}

function bytesOf(parts: readonly Part[]): number {
  return parts.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)
}

async function* piecesAt([offset, length, kind]: PiecePlace, reader: PartsReader): AsyncGenerator<Piece> {
  if (kind !== 'bytes') {
    yield { offset, length, bytes: undefined, ...(kind === 'hole' && { hole: true }) }
    return
  }
  for (let done = 0; done < length; ) {
    const bytes = await reader.next(length - done)
    yield { offset: offset + done, length: bytes.length, bytes }
    done += bytes.length
  }
}

/** The chunks of an answer, one in memory. */
class PartsReader {
  readonly #parts: Part[]
  readonly #read: (part: Part) => Promise<Uint8Array>
  #left: Uint8Array = new Uint8Array()

  constructor(parts: readonly Part[], read: (part: Part) => Promise<Uint8Array>) {
    this.#parts = [...parts]
    this.#read = read
  }

  /** Up to so many bytes, at least one. */
  async next(mostBytes: number): Promise<Uint8Array> {
    if (this.#left.length === 0) {
      const part = this.#parts.shift()
      if (!part) throw new LinkError('protocol', 'the answer to a fetch ends before its pieces do')
      this.#left = await this.#read(part)
    }
    const bytes = this.#left.subarray(0, mostBytes)
    this.#left = this.#left.subarray(bytes.length)
    return bytes
  }
}
