// What a migration sees of a peer: calls (JSON both ways) and fetches (pieces of a disk), and the two ways they fail.
// LinkError: the link is at fault, and the same request may be made again. PeerRefusal: the peer answered, and said no.

import type { Piece, Run, Urgency } from '../block/units.ts'
import type { TransportOptions } from '../transport/index.ts'

export type Purpose = TransportOptions['purpose']
export const purposes = ['control', 'demand', 'background'] as const satisfies readonly Purpose[]

export interface FetchRequest {
  readonly migration: string
  /** Its UUID. */
  readonly disk: string
  readonly generation: number
  /** Bytes; sorted and disjoint; at most `maximumRuns` of them. */
  readonly runs: readonly Run[]
}

/**
 * An answer, and bytes of any length behind it: read to their end, or left (`return()`, or the signal of the call). Until
 * then the request is under way.
 */
export interface LongAnswer {
  readonly answer: unknown
  /** To be read once. Each part was checked. Throws LinkError or PeerRefusal if it does not come to its end. */
  readonly body: AsyncIterableIterator<Uint8Array>
}

export interface PeerChannel {
  readonly peerId: string
  /** Control lane. Rejects with LinkError or PeerRefusal. Waits for the link for as long as `signal` lets it. */
  call(method: string, params: object, options: { signal: AbortSignal }): Promise<unknown>
  /** The same, of an answer that has a body, or an empty one. A peer that sends over `maximumBytes` of it loses its lane. */
  callForBody(
    method: string,
    params: object,
    options: { maximumBytes: number; signal: AbortSignal },
  ): Promise<LongAnswer>
  /**
   * Pieces that cover the runs exactly once, in any order, each checked against its digest. The request is made at the first
   * `next()`. Throws LinkError or PeerRefusal; what was yielded before is good.
   */
  fetch(request: FetchRequest, options: { urgency: Urgency; signal: AbortSignal }): AsyncIterable<Piece>
}

/** A handler's answer with a body, for a call that takes one. The body's bytes must not change once they are given. */
export class AnswerWithBody {
  readonly answer: object
  readonly body: Iterable<Uint8Array> | AsyncIterable<Uint8Array>
  constructor(answer: object, body: Iterable<Uint8Array> | AsyncIterable<Uint8Array>) {
    this.answer = answer
    this.body = body
  }
}

/**
 * What this site answers. `signal` aborts when the peer cancels or its lane breaks. Throw a PeerRefusal to say no. A call is
 * answered with what JSON can say, or with an AnswerWithBody.
 */
export interface PeerHandlers {
  call(peerId: string, method: string, params: unknown, signal: AbortSignal): Promise<object>
  fetch(peerId: string, request: FetchRequest, urgency: Urgency, signal: AbortSignal): AsyncIterable<Piece>
}

/**
 * lost: the lane broke; whether the peer acted is not known. unreachable: no lane could be made. protocol: the peer said
 * something illegal. incompatible: it speaks another version. overloaded: too many requests wait here.
 * closed: this site is stopping, or the peer was removed.
 */
export type LinkErrorCode = 'lost' | 'unreachable' | 'protocol' | 'aborted' | 'incompatible' | 'overloaded' | 'closed'

export class LinkError extends Error {
  readonly code: LinkErrorCode
  constructor(code: LinkErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'LinkError'
    this.code = code
  }
}

/** Thrown by a handler, it travels: `code`, `message`, `facts`, and nothing else. Codes are like `disk-unknown`. */
export class PeerRefusal extends Error {
  readonly code: string
  readonly facts: object | undefined
  constructor(code: string, message: string, facts?: object) {
    super(message)
    this.name = 'PeerRefusal'
    this.code = code
    this.facts = facts
  }
}

/** A body that must have so many bytes. @throws LinkError, PeerRefusal */
export async function wholeBody(body: LongAnswer['body'], lengthBytes: number): Promise<Buffer> {
  const whole = Buffer.allocUnsafe(lengthBytes)
  let filled = 0
  for await (const part of body) {
    if (filled + part.length <= lengthBytes) whole.set(part, filled)
    filled += part.length
  }
  if (filled === lengthBytes) return whole
  throw new LinkError('protocol', `the peer answered with ${filled} bytes where ${lengthBytes} were asked for`)
}

export function aborted(signal: AbortSignal): LinkError {
  return new LinkError('aborted', 'the request was given up here', { cause: signal.reason })
}
