// The requests that the peer made on one lane. Each ends with exactly one reply, end, error or done, when its handler has
// ended, also after a cancel. At most `maximumRequests` are open; `maximumServedFetches` fetches run, and as many bodies as
// `maximumServedBodies`: these go out as fast as the peer takes them. Of a handler's failure only a PeerRefusal travels; the
// rest is logged here and said to be internal.

import type { Urgency } from '../../block/units.ts'
import type { Log } from '../../transport/index.ts'
import { AnswerWithBody, type FetchRequest, LinkError, type PeerHandlers } from '../channel.ts'
import { Coverage } from '../wire/coverage.ts'
import {
  encodeEmpty,
  encodeEnd,
  encodeJson,
  encodePart,
  encodePiece,
  type Frame,
  maximumPartBytes,
  splitPiece,
} from '../wire/frames.ts'
import { type CallMessage, callMessage, type ErrorMessage, fetchMessage, parseMessage } from '../wire/messages.ts'
import { seal } from './digests.ts'
import { Places } from './places.ts'
import { maximumRequests } from './requester.ts'
import type { Sender } from './sender.ts'

export const maximumServedFetches = 8
export const maximumServedBodies = 8
const maximumMessageCharacters = 2000
const maximumFactsCharacters = 64 * 1024
/** Codes such as `disk-unknown`: never those of the system (ENOSPC), whose messages name files of this host. */
const refusalCode = /^[a-z][a-z0-9-]{0,63}$/

export interface ResponderOptions {
  readonly peerId: string
  readonly handlers: PeerHandlers
  readonly sender: Sender
  readonly log: Log
}

export class Responder {
  readonly #options: ResponderOptions
  readonly #open = new Map<number, AbortController>()
  readonly #fetches = new Places(maximumServedFetches)
  readonly #bodies = new Places(maximumServedBodies)

  constructor(options: ResponderOptions) {
    this.#options = options
  }

  get outstanding(): number {
    return this.#open.size
  }

  /** Throws LinkError 'protocol' for a request that the peer must not make. */
  receive(frame: Frame): void {
    // A cancel may cross the end of its request.
    if (frame.type === 'cancel') {
      this.#open.get(frame.id)?.abort()
      return
    }
    if (this.#open.has(frame.id)) throw new LinkError('protocol', `the peer used request id ${frame.id} twice`)
    if (this.#open.size >= maximumRequests) throw new LinkError('protocol', `over ${maximumRequests} requests are open`)
    if (frame.type === 'call') {
      const message = parseMessage(callMessage, frame.json, 'call')
      this.#run(frame.id, (signal) => this.#call(frame.id, message, signal))
    } else if (frame.type === 'fetch') {
      const message = parseMessage(fetchMessage, frame.json, 'fetch')
      const runs = message.runs.map(([offset, length]) => ({ offset, length }))
      const coverage = requestedCoverage(runs)
      const { migration, disk, generation } = message
      const request: FetchRequest = { migration, disk, generation, runs }
      this.#run(frame.id, async (signal) => {
        using _place = await this.#fetches.enter(signal)
        await this.#fetch(frame.id, request, message.urgency, coverage, signal)
        return encodeEmpty('done', frame.id)
      })
    }
  }

  /** The lane broke: nobody waits for the answers. */
  close(): void {
    for (const controller of this.#open.values()) controller.abort()
  }

  #run(id: number, serve: (signal: AbortSignal) => Promise<Buffer>): void {
    const controller = new AbortController()
    this.#open.set(id, controller)
    // Until its answer is on its way a request counts, so that a peer that asks and does not read is bounded.
    const ended = (last: Buffer) => this.#options.sender.send([last], undefined, () => this.#open.delete(id))
    serve(controller.signal)
      .catch((error) => encodeJson('error', id, this.#refusal(error, controller.signal)))
      .then(ended)
      .catch(() => this.#open.delete(id)) // The lane broke, and told everybody.
  }

  async #call(id: number, { method, params, bodyBytes }: CallMessage, signal: AbortSignal): Promise<Buffer> {
    const { handlers, peerId } = this.#options
    const answer = await handlers.call(peerId, method, params, signal)
    if (!(answer instanceof AnswerWithBody)) return encodeJson('reply', id, answer ?? {})
    if (bodyBytes === undefined) throw new Error(`the answer to ${method} has a body, and the call takes none`)
    using _place = await this.#bodies.enter(signal)
    return await this.#answerWithBody(id, answer, bodyBytes, signal)
  }

  /** Resolves to the last frame. */
  async #answerWithBody(
    id: number,
    { answer, body }: AnswerWithBody,
    bodyBytes: number,
    signal: AbortSignal,
  ): Promise<Buffer> {
    const { sender, peerId } = this.#options
    await sender.send([encodeJson('head', id, answer)], signal)
    let sentBytes = 0
    for await (const whole of body) {
      sentBytes += whole.length
      if (sentBytes > bodyBytes) throw new Error(`the body is over the ${bodyBytes} bytes that the call takes`)
      for (let at = 0; at < whole.length; at += maximumPartBytes) {
        const part = whole.subarray(at, at + maximumPartBytes)
        await sender.send(encodePart(id, part, await seal(part, 'demand', peerId)), signal)
      }
    }
    return encodeEnd(id, sentBytes)
  }

  async #fetch(
    id: number,
    request: FetchRequest,
    urgency: Urgency,
    coverage: Coverage,
    signal: AbortSignal,
  ): Promise<void> {
    const { handlers, peerId, sender } = this.#options
    for await (const whole of handlers.fetch(peerId, request, urgency, signal)) {
      for (const piece of splitPiece(whole)) {
        coverage.add(piece)
        const digest = piece.bytes && (await seal(piece.bytes, urgency, peerId))
        await sender.send(encodePiece(id, piece, digest), signal)
      }
    }
    if (!coverage.complete) throw new Error(`the fetch ended without the bytes at ${coverage.firstMissing}`)
  }

  #refusal(error: unknown, signal: AbortSignal): ErrorMessage {
    if (signal.aborted) return { code: 'cancelled', message: 'the request was cancelled' }
    if (isRefusal(error)) {
      const message = error.message.slice(0, maximumMessageCharacters)
      return { code: error.code, message, ...portableFacts(error.facts) }
    }
    this.#options.log.error({ peer: this.#options.peerId, err: error }, 'a request of a peer failed here')
    return { code: 'internal', message: 'the request failed at the peer, whose log says why' }
  }
}

function requestedCoverage(runs: FetchRequest['runs']): Coverage {
  try {
    return new Coverage(runs)
  } catch (error) {
    throw new LinkError('protocol', `the peer asked for illegal runs: ${(error as Error).message}`, { cause: error })
  }
}

function isRefusal(error: unknown): error is Error & { code: string; facts?: object } {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return false
  return (error.name === 'PeerRefusal' || 'facts' in error) && refusalCode.test(error.code)
}

/** Facts that JSON cannot say, or that are too many, stay here. */
function portableFacts(facts: unknown): { facts?: Record<string, unknown> } {
  if (typeof facts !== 'object' || facts === null || Array.isArray(facts)) return {}
  try {
    const text = JSON.stringify(facts)
    return text.length <= maximumFactsCharacters ? { facts: JSON.parse(text) } : {}
  } catch {
    return {}
  }
}
