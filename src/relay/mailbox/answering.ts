// The serving end of a mailbox: what the other site asks goes to this site's handlers, once, and the answer is kept for as long
// as it is asked for.
//
// What always holds: of one session a request is done once, whichever of the letters that have it are read. A request that is
// asked no more is aborted, its answer forgotten and its chunks deleted.

import { AnswerWithBody, type FetchRequest, type PeerHandlers, type PeerRefusal } from '../../link/channel.ts'
import { Coverage } from '../../link/wire/coverage.ts'
import type { Bodies } from './bodies.ts'
import { type Answered, type Asked, longestWordsBytes, type Part, type PiecePlace } from './letter.ts'

const refusalCode = /^[a-z][a-z0-9-]{0,63}$/
const longestMessage = 2000

interface Open {
  readonly controller: AbortController
  readonly parts: Part[]
  answered: Answered | undefined
}

export interface AnsweringParts {
  readonly peerId: string
  readonly handlers: PeerHandlers
  readonly bodies: Bodies
  /** An answer is there to be given. */
  changed(): void
  /** A handler failed, and not by a refusal. */
  failed(error: unknown): void
  /** Chunks could not be deleted: they are cleared at the end of the move. */
  left(error: unknown): void
}

export class Answering {
  readonly #parts: AnsweringParts
  readonly #open = new Map<number, Open>()
  readonly #closed = new AbortController()
  /** Of this session: what is below or equal has been asked already. */
  #highest = -1

  constructor(parts: AnsweringParts) {
    this.#parts = parts
  }

  get answers(): Answered[] {
    return [...this.#open.values()].flatMap(({ answered }) => answered ?? [])
  }

  get isBusy(): boolean {
    return this.#open.size > 0
  }

  /** All that is asked now. */
  take(requests: readonly Asked[]): void {
    const asked = new Set(requests.map(({ id }) => id))
    for (const id of [...this.#open.keys()]) if (!asked.has(id)) this.#end(id)
    for (const request of [...requests].sort((one, other) => one.id - other.id)) {
      if (request.id <= this.#highest) continue
      this.#highest = request.id
      const open: Open = { controller: new AbortController(), parts: [], answered: undefined }
      this.#open.set(request.id, open)
      void this.#serve(request, open)
    }
  }

  /** Another session: nobody waits for these answers. */
  restart(): void {
    for (const id of [...this.#open.keys()]) this.#end(id)
    this.#highest = -1
  }

  close(): void {
    this.restart()
    this.#closed.abort(new Error('the mailbox is closed'))
  }

  #end(id: number): void {
    const open = this.#open.get(id)!
    this.#open.delete(id)
    open.controller.abort(new Error('the request was given up there, or its answer was read'))
    if (open.answered) this.#drop(open.parts)
  }

  #drop(parts: readonly Part[]): void {
    if (parts.length === 0) return
    this.#parts.bodies.drop(parts, this.#closed.signal).catch((error: unknown) => this.#parts.left(error))
  }

  async #serve(request: Asked, open: Open): Promise<void> {
    const { signal } = open.controller
    let answered: Answered
    try {
      answered =
        'fetch' in request
          ? await this.#fetch(request.id, request.fetch, open.parts, signal)
          : await this.#call(request, open.parts, signal)
      if (Buffer.byteLength(JSON.stringify(answered)) > longestWordsBytes) {
        throw new RangeError(`an answer is over the bound of ${longestWordsBytes} bytes`)
      }
    } catch (error) {
      answered = { id: request.id, error: this.#refusal(error, signal) }
      this.#drop(open.parts.splice(0))
    }
    if (signal.aborted) this.#drop(open.parts)
    else {
      open.answered = answered
      this.#parts.changed()
    }
  }

  async #call(
    { id, method, params, bodyBytes }: Extract<Asked, { method: string }>,
    parts: Part[],
    signal: AbortSignal,
  ): Promise<Answered> {
    const { handlers, peerId, bodies } = this.#parts
    const answer = await handlers.call(peerId, method, params, signal)
    if (!(answer instanceof AnswerWithBody)) return { id, answer: answer ?? {} }
    if (bodyBytes === undefined) throw new Error(`the answer to ${method} has a body, and the call takes none`)
    await bodies.put(answer.body, parts, { signal, urgency: 'demand', maximumBytes: bodyBytes })
    return { id, answer: answer.answer, parts }
  }

  async #fetch(
    id: number,
    { urgency, runs: tuples, ...named }: Extract<Asked, { fetch: unknown }>['fetch'],
    parts: Part[],
    signal: AbortSignal,
  ): Promise<Answered> {
    const { handlers, peerId, bodies } = this.#parts
    const runs = tuples.map(([offset, length]) => ({ offset, length }))
    const request: FetchRequest = { ...named, runs }
    const coverage = new Coverage(runs)
    const pieces: PiecePlace[] = []
    async function* bytesOf(): AsyncGenerator<Uint8Array> {
      for await (const piece of handlers.fetch(peerId, request, urgency, signal)) {
        coverage.add(piece)
        add(pieces, [piece.offset, piece.length, piece.bytes ? 'bytes' : piece.hole ? 'hole' : 'zeros'])
        if (piece.bytes) yield piece.bytes
      }
    }
    await bodies.put(bytesOf(), parts, { signal, urgency, maximumBytes: Number.MAX_SAFE_INTEGER })
    if (!coverage.complete) throw new Error(`the fetch ended without the bytes at ${coverage.firstMissing}`)
    return { id, answer: {}, parts, pieces }
  }

  #refusal(error: unknown, signal: AbortSignal): Extract<Answered, { error: unknown }>['error'] {
    if (signal.aborted) return { code: 'cancelled', message: 'the request was cancelled' }
    if (isRefusal(error)) {
      const message = error.message.slice(0, longestMessage)
      return { code: error.code, message, ...(error.facts && { facts: { ...error.facts } }) }
    }
    this.#parts.failed(error)
    return { code: 'internal', message: 'the request failed at the peer, whose log says why' }
  }
}

const longestMergedBytes = 1024 * 1024

/** Neighbours of one kind are one piece, up to a bound. */
function add(pieces: PiecePlace[], [offset, length, kind]: PiecePlace): void {
  const last = pieces.at(-1)
  const continues = last && last[2] === kind && last[0] + last[1] === offset
  if (continues && (kind !== 'bytes' || last[1] + length <= longestMergedBytes)) last[1] += length
  else pieces.push([offset, length, kind])
}

function isRefusal(error: unknown): error is PeerRefusal {
  return error instanceof Error && error.name === 'PeerRefusal' && 'code' in error && refusalCode.test(`${error.code}`)
}
