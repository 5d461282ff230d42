// What may come in answer to a request, frame by frame: a reply; a head, the parts of a body and its end; pieces that cover
// runs. Whatever else comes is a LinkError 'protocol', after which the lane is of no use.

import type { Piece, Urgency } from '../../block/units.ts'
import { LinkError } from '../channel.ts'
import type { Coverage } from '../wire/coverage.ts'
import type { Frame } from '../wire/frames.ts'
import { unseal, unsealPiece } from './digests.ts'

/** What a waiting item costs beside its bytes: so that many small ones are bounded as well. */
const itemCostBytes = 256

/** One piece of a fetch, or part of a body. */
export interface Item<Value> {
  readonly costBytes: number
  /** Its bytes are held against their digest. */
  open(): Promise<Value>
}

/** `head`: the answer of a call. */
export interface Came<Value> {
  readonly head?: object
  readonly item?: Item<Value>
  readonly isEnd: boolean
}

/** Frames of one request, but for `error`, which ends any. */
export interface Expected<Value> {
  take(frame: Frame): Came<Value>
}

export class ExpectedReply implements Expected<never> {
  take(frame: Frame): Came<never> {
    if (frame.type === 'reply') return { head: frame.json, isEnd: true }
    throw new LinkError('protocol', `the peer answered a call with ${frame.type}`)
  }
}

/** A reply will do: then the body is empty. */
export class ExpectedBody implements Expected<Uint8Array> {
  readonly #maximumBytes: number
  #hasBegun = false
  #takenBytes = 0

  constructor(maximumBytes: number) {
    this.#maximumBytes = maximumBytes
  }

  take(frame: Frame): Came<Uint8Array> {
    if (!this.#hasBegun) {
      if (frame.type === 'reply') return { head: frame.json, isEnd: true }
      if (frame.type !== 'head') throw new LinkError('protocol', `the peer began an answer with ${frame.type}`)
      this.#hasBegun = true
      return { head: frame.json, isEnd: false }
    }
    if (frame.type === 'part') {
      const { sealed } = frame
      this.#takenBytes += sealed.bytes.length
      if (this.#takenBytes > this.#maximumBytes) {
        throw new LinkError('protocol', `the peer sent a body of over ${this.#maximumBytes} bytes, which were the most`)
      }
      const open = () => unseal(sealed, 'demand', 'a part of a body')
      return { item: { costBytes: itemCostBytes + sealed.bytes.length, open }, isEnd: false }
    }
    if (frame.type !== 'end') throw new LinkError('protocol', `the peer sent ${frame.type} within a body`)
    if (frame.lengthBytes === this.#takenBytes) return { isEnd: true }
    throw new LinkError(
      'protocol',
      `the peer ended a body of ${frame.lengthBytes} bytes, of which ${this.#takenBytes} came`,
    )
  }
}

export class ExpectedPieces implements Expected<Piece> {
  readonly #coverage: Coverage
  readonly #urgency: Urgency

  constructor(coverage: Coverage, urgency: Urgency) {
    this.#coverage = coverage
    this.#urgency = urgency
  }

  take(frame: Frame): Came<Piece> {
    if (frame.type === 'piece') {
      const { piece } = frame
      this.#coverage.add(piece)
      const costBytes = itemCostBytes + (piece.sealed?.bytes.length ?? 0)
      return { item: { costBytes, open: () => unsealPiece(piece, this.#urgency) }, isEnd: false }
    }
    if (frame.type !== 'done') throw new LinkError('protocol', `the peer ended a fetch with ${frame.type}`)
    if (this.#coverage.complete) return { isEnd: true }
    throw new LinkError('protocol', `the peer ended a fetch without the bytes at ${this.#coverage.firstMissing}`)
  }
}
