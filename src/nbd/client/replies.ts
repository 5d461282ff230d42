// Takes a server's replies out of what arrives and brings each to its request. No socket, no clock.
// Always: a reply's bytes land in memory that the client made for its own request; what a server announces beyond that
// request, or beyond a named bound, is a ProtocolError, after which the parser must not be used.

import { ChunkFlag, ChunkType, chunkHeaderBytes, ErrorNumber, nameOf, simpleReplyBytes } from '../wire/constants.ts'
import { Gather } from '../wire/gather.ts'
import { ProtocolError } from '../wire/negotiation-codecs.ts'
import type { ReplyStyle } from '../wire/reply-writers.ts'
import {
  type ChunkHeader,
  type ContextExtent,
  decodeBlockStatusExtPayload,
  decodeBlockStatusPayload,
  decodeErrorPayload,
  decodeExtendedReplyHeader,
  decodeReplyHeader,
  type ExtendedChunkHeader,
  type SimpleReply,
  wordsToNumber,
} from '../wire/transmission-codecs.ts'
import { NbdRequestError } from './errors.ts'

const errorPayloadMaxBytes = 6 + 65_535 + 8
const extentsMax = 131_072
const errorsMax = 16

export interface PendingRequest {
  /** For messages: "NBD_CMD_READ offset=0 length=512". */
  readonly text: string
  readonly offset: number
  readonly lengthBytes: number
  /** A READ's bytes. */
  readonly target: Buffer | undefined
  /** A BLOCK_STATUS's extents, by context name. */
  readonly statuses: Map<string, readonly ContextExtent[]> | undefined
  filledBytes: number
  errors: number
  error: NbdRequestError | undefined
  resolve(): void
  reject(error: Error): void
}

interface Fill {
  readonly target: Buffer
  at: number
  readonly end: number
  done(): void
}

interface Payload {
  readonly gather: Gather
  done(bytes: Buffer): void
}

export class ReplyParser {
  readonly pending = new Map<number, PendingRequest>()
  readonly #style: ReplyStyle
  readonly #contexts: ReadonlyMap<number, string>
  readonly #head: Buffer
  #headFilled = 0
  #fill: Fill | undefined
  #payload: Payload | undefined

  constructor(style: ReplyStyle, contexts: ReadonlyMap<number, string>) {
    this.#style = style
    this.#head = Buffer.alloc(Math.max(style.headBytes, chunkHeaderBytes))
    this.#contexts = contexts
  }

  /** Throws ProtocolError. */
  push(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length) {
      if (this.#fill !== undefined) at = this.#fillFrom(this.#fill, chunk, at)
      else if (this.#payload !== undefined) at = this.#gatherFrom(this.#payload, chunk, at)
      else at = this.#headFrom(chunk, at)
    }
  }

  #fillFrom(fill: Fill, chunk: Buffer, at: number): number {
    const takenBytes = chunk.copy(fill.target, fill.at, at, Math.min(chunk.length, at + fill.end - fill.at))
    fill.at += takenBytes
    if (fill.at === fill.end) {
      this.#fill = undefined
      fill.done()
    }
    return at + takenBytes
  }

  #gatherFrom(payload: Payload, chunk: Buffer, at: number): number {
    const takenBytes = payload.gather.push(chunk, at)
    if (payload.gather.isComplete) {
      this.#payload = undefined
      payload.done(payload.gather.bytes)
    }
    return at + takenBytes
  }

  /**
   * A simple reply's head is shorter than a structured chunk's: no byte is taken that may belong to what follows. Extended
   * heads are all of one length.
   */
  #headFrom(chunk: Buffer, at: number): number {
    const { isExtended, headBytes } = this.#style
    const compactBytes = this.#headFilled < simpleReplyBytes ? simpleReplyBytes : chunkHeaderBytes
    const wantedBytes = isExtended ? headBytes : compactBytes
    const takenBytes = chunk.copy(this.#head, this.#headFilled, at, at + wantedBytes - this.#headFilled)
    this.#headFilled += takenBytes
    const arrived = this.#head.subarray(0, this.#headFilled)
    const header = isExtended ? decodeExtendedReplyHeader(arrived, 0) : decodeReplyHeader(arrived, 0)
    if (header !== undefined) {
      this.#headFilled = 0
      this.#received(header)
    }
    return at + takenBytes
  }

  #received(header: SimpleReply | ChunkHeader | ExtendedChunkHeader): void {
    const key = header.cookieLow
    const request = header.cookieHigh === 0 ? this.pending.get(key) : undefined
    if (request === undefined) throw new ProtocolError('a reply belongs to no request')
    if (header.kind === 'simple') {
      this.#simple(key, request, header.errorNumber)
      return
    }
    if (!this.#style.hasChunks) throw new ProtocolError('a structured reply was not agreed on')
    if ('offsetLow' in header && wordsToNumber(header.offsetHigh, header.offsetLow) !== request.offset) {
      throw new ProtocolError(`a reply names another offset than ${request.text}`)
    }
    const isLast = (header.flags & ChunkFlag.done) !== 0
    const done = (): void => {
      if (isLast) this.#finish(key, request)
    }
    const { type, lengthBytes } = header
    if (type === ChunkType.none) {
      if (lengthBytes !== 0 || !isLast) throw new ProtocolError('an empty chunk must be the last, and empty')
      done()
    } else if (type === ChunkType.offsetData && request.target !== undefined) {
      if (lengthBytes <= 8) throw new ProtocolError('a data chunk has no data')
      this.#expect(8, (bytes) => this.#dataChunk(request, bytes.readBigUInt64BE(0), lengthBytes - 8, done))
    } else if (type === ChunkType.offsetHole && request.target !== undefined) {
      if (lengthBytes !== 12) throw new ProtocolError('a hole chunk has a broken length')
      this.#expect(12, (bytes) => {
        const holeBytes = bytes.readUInt32BE(8)
        const at = this.#within(request, bytes.readBigUInt64BE(0), holeBytes)
        request.target!.fill(0, at, at + holeBytes)
        done()
      })
    } else if (type === this.#statusType && request.statuses !== undefined) {
      if (lengthBytes > this.#statusMaxBytes) throw new ProtocolError('a block status chunk is too long')
      this.#expect(lengthBytes, (bytes) => {
        this.#blockStatus(request, bytes)
        done()
      })
    } else if (type >= ChunkType.error && lengthBytes <= errorPayloadMaxBytes) {
      this.#expect(lengthBytes, (bytes) => {
        this.#error(request, bytes)
        done()
      })
    } else {
      throw new ProtocolError(`a chunk of type ${type} with ${lengthBytes} bytes answers ${request.text}`)
    }
  }

  get #statusType(): number {
    return this.#style.isExtended ? ChunkType.blockStatusExt : ChunkType.blockStatus
  }

  get #statusMaxBytes(): number {
    return this.#style.isExtended ? 8 + 16 * extentsMax : 4 + 8 * extentsMax
  }

  #simple(key: number, request: PendingRequest, errorNumber: number): void {
    if (request.statuses !== undefined || (this.#style.hasChunks && request.target !== undefined)) {
      throw new ProtocolError(`a simple reply answers ${request.text}`)
    }
    if (errorNumber !== 0) request.error = requestError(request, errorNumber, '')
    if (request.target === undefined || errorNumber !== 0 || request.lengthBytes === 0) {
      this.#finish(key, request)
      return
    }
    request.filledBytes = request.lengthBytes
    this.#fill = { target: request.target, at: 0, end: request.lengthBytes, done: () => this.#finish(key, request) }
  }

  #dataChunk(request: PendingRequest, offset: bigint, lengthBytes: number, done: () => void): void {
    const at = this.#within(request, offset, lengthBytes)
    this.#fill = { target: request.target!, at, end: at + lengthBytes, done }
  }

  /** Where in the target a chunk's range lies. */
  #within(request: PendingRequest, offset: bigint, lengthBytes: number): number {
    const at = offset - BigInt(request.offset)
    if (at < 0n || lengthBytes === 0 || at + BigInt(lengthBytes) > BigInt(request.lengthBytes)) {
      throw new ProtocolError(`a chunk lies outside ${request.text}`)
    }
    request.filledBytes += lengthBytes
    if (request.filledBytes > request.lengthBytes) throw new ProtocolError(`chunks overlap in ${request.text}`)
    return Number(at)
  }

  #blockStatus(request: PendingRequest, bytes: Buffer): void {
    const decode = this.#style.isExtended ? decodeBlockStatusExtPayload : decodeBlockStatusPayload
    const { contextId, extents } = decode(bytes)
    const name = this.#contexts.get(contextId)
    if (name === undefined || request.statuses!.has(name)) {
      throw new ProtocolError(`a status of context ${contextId}, which was not asked for`)
    }
    if (extents.some(({ lengthBytes }) => lengthBytes === 0)) throw new ProtocolError('an extent is empty')
    request.statuses!.set(name, extents)
  }

  #error(request: PendingRequest, bytes: Buffer): void {
    const { errorNumber, sentence } = decodeErrorPayload(bytes)
    if (errorNumber === 0) throw new ProtocolError('an error chunk has no error')
    if (++request.errors > errorsMax) throw new ProtocolError(`over ${errorsMax} errors for ${request.text}`)
    request.error ??= requestError(request, errorNumber, sentence)
  }

  #expect(lengthBytes: number, done: (bytes: Buffer) => void): void {
    this.#payload = { gather: new Gather(lengthBytes), done }
  }

  /** While a request is pending, whoever ends the connection rejects it: so the check comes before the removal. */
  #finish(key: number, request: PendingRequest): void {
    const isShort = request.target !== undefined && request.filledBytes !== request.lengthBytes
    if (request.error === undefined && isShort) {
      throw new ProtocolError(`only ${request.filledBytes} bytes came for ${request.text}`)
    }
    this.pending.delete(key)
    if (request.error !== undefined) request.reject(request.error)
    else request.resolve()
  }
}

function requestError(request: PendingRequest, errorNumber: number, sentence: string): NbdRequestError {
  const says = sentence === '' ? '' : `: ${sentence}`
  return new NbdRequestError(`${request.text} failed: ${nameOf(ErrorNumber, errorNumber)}${says}`, errorNumber)
}
