// The wire format of a lane: bytes to frames and back. Pure: no stream, no clock. All integers are big-endian.
//
//   frame  = u32 body length | u8 type | 3 zero bytes | u32 request id | body
//   body   = JSON object (hello, call, reply, error, fetch, head) | nothing (cancel, done, ping, pong) | piece | part | end
//   piece  = u64 offset | u32 length | u8 kind | 3 zero bytes | for kind data: SHA-256 of the bytes, the bytes
//   part   = SHA-256 of the bytes | the bytes
//   end    = u64 length of all parts together
//
// A length is checked against its type's bound before a byte is allocated for it. Digests are carried, and neither made nor
// looked at: that takes time, and is done where bytes leave the lane (link/lane/digests.ts). Until then they are `Sealed`.

import assert from 'node:assert/strict'
import { withOwnMemory } from '../../block/own-memory.ts'
import type { Piece } from '../../block/units.ts'
import { LinkError } from '../channel.ts'

export const FrameType = {
  hello: 1,
  call: 2,
  reply: 3,
  error: 4,
  cancel: 5,
  fetch: 6,
  piece: 7,
  done: 8,
  ping: 9,
  pong: 10,
  head: 11,
  part: 12,
  end: 13,
} as const

export type FrameName = keyof typeof FrameType
export type JsonFrameName = 'hello' | 'call' | 'reply' | 'error' | 'fetch' | 'head'
export type EmptyFrameName = 'cancel' | 'done' | 'ping' | 'pong'

/** Bytes as they came, with the digest that the peer says they have. */
export interface Sealed {
  readonly bytes: Buffer
  readonly digest: Buffer
}

/** `sealed` undefined: zeros. */
export interface SealedPiece {
  readonly offset: number
  readonly length: number
  readonly hole: boolean
  readonly sealed: Sealed | undefined
}

export type Frame =
  | { readonly type: JsonFrameName; readonly id: number; readonly json: object }
  | { readonly type: EmptyFrameName; readonly id: number }
  | { readonly type: 'piece'; readonly id: number; readonly piece: SealedPiece }
  | { readonly type: 'part'; readonly id: number; readonly sealed: Sealed }
  | { readonly type: 'end'; readonly id: number; readonly lengthBytes: number }

export const PieceKind = { data: 0, zero: 1, hole: 2 } as const

export const headerBytes = 12
export const maximumJsonBytes = 256 * 1024
/** SHA-256 of 1 MiB takes 0.6 ms: below the 2 ms that a loop serving guests may give to one thing. */
export const maximumPieceBytes = 1024 * 1024
/** Of the body of an answer. */
export const maximumPartBytes = 256 * 1024
export const maximumRequestId = 0xffffffff
const maximumZeroBytes = 0xffffffff
const pieceHeadBytes = 16
const digestBytes = 32
const endBytes = 8

const names = new Map<number, FrameName>(Object.entries(FrameType).map(([name, value]) => [value, name as FrameName]))
const jsonNames: ReadonlySet<FrameName> = new Set(['hello', 'call', 'reply', 'error', 'fetch', 'head'])
/** These concern the lane, not a request: their id is 0. */
const laneNames: ReadonlySet<FrameName> = new Set(['hello', 'ping', 'pong'])
const utf8 = new TextDecoder('utf-8', { fatal: true })

function illegal(message: string): LinkError {
  return new LinkError('protocol', `the peer sent an illegal frame: ${message}`)
}

function header(type: FrameName, id: number, bodyBytes: number, allocateBytes: number): Buffer {
  const bytes = Buffer.alloc(headerBytes + allocateBytes)
  bytes.writeUInt32BE(bodyBytes, 0)
  bytes.writeUInt8(FrameType[type], 4)
  bytes.writeUInt32BE(id, 8)
  return bytes
}

export function encodeEmpty(type: EmptyFrameName, id: number): Buffer {
  return header(type, id, 0, 0)
}

/** Throws a RangeError when the JSON is over `maximumJsonBytes`. */
export function encodeJson(type: JsonFrameName, id: number, json: object): Buffer {
  const text = Buffer.from(JSON.stringify(json), 'utf8')
  if (text.length > maximumJsonBytes) {
    throw new RangeError(`a message of ${text.length} bytes is over the bound of ${maximumJsonBytes}`)
  }
  return Buffer.concat([header(type, id, text.length, 0), text])
}

/**
 * `piece.bytes` is returned as it is, never copied: it must not change until it is written. `digest`: its SHA-256; undefined
 * for zeros.
 */
export function encodePiece(id: number, piece: Piece, digest: Buffer | undefined): Uint8Array[] {
  const { offset, length, bytes } = piece
  const maximum = bytes ? maximumPieceBytes : maximumZeroBytes
  if (!(length >= 1 && length <= maximum) || (bytes && bytes.length !== length)) {
    throw new RangeError(`a piece of ${length} bytes at ${offset} cannot be one frame`)
  }
  assert((digest !== undefined) === (bytes !== undefined))
  const restBytes = bytes ? digestBytes : 0
  const head = header('piece', id, pieceHeadBytes + restBytes + (bytes?.length ?? 0), pieceHeadBytes + restBytes)
  head.writeBigUInt64BE(BigInt(offset), headerBytes)
  head.writeUInt32BE(length, headerBytes + 8)
  head.writeUInt8(bytes ? PieceKind.data : piece.hole ? PieceKind.hole : PieceKind.zero, headerBytes + 12)
  if (!bytes) return [head]
  digest!.copy(head, headerBytes + pieceHeadBytes)
  return [head, bytes]
}

/** `bytes`, at most `maximumPartBytes`, are returned as they are. */
export function encodePart(id: number, bytes: Uint8Array, digest: Buffer): Uint8Array[] {
  if (bytes.length < 1 || bytes.length > maximumPartBytes) {
    throw new RangeError(`a part of ${bytes.length} bytes cannot be one frame`)
  }
  const head = header('part', id, digestBytes + bytes.length, digestBytes)
  digest.copy(head, headerBytes)
  return [head, bytes]
}

export function encodeEnd(id: number, lengthBytes: number): Buffer {
  const frame = header('end', id, endBytes, endBytes)
  frame.writeBigUInt64BE(BigInt(lengthBytes), headerBytes)
  return frame
}

/** Cuts zeros and bytes into what one frame holds. */
export function splitPiece(piece: Piece): readonly Piece[] {
  const maximum = piece.bytes ? maximumPieceBytes : 2 ** 31
  if (piece.length <= maximum) return [piece]
  const pieces: Piece[] = []
  for (let start = 0; start < piece.length; start += maximum) {
    const length = Math.min(maximum, piece.length - start)
    pieces.push({ ...piece, offset: piece.offset + start, length, bytes: piece.bytes?.subarray(start, start + length) })
  }
  return pieces
}

/** Of a frame's body. */
function boundsOf(name: FrameName): readonly [minimum: number, maximum: number] {
  if (jsonNames.has(name)) return [2, maximumJsonBytes]
  if (name === 'piece') return [pieceHeadBytes, pieceHeadBytes + digestBytes + maximumPieceBytes]
  if (name === 'part') return [digestBytes + 1, digestBytes + maximumPartBytes]
  return name === 'end' ? [endBytes, endBytes] : [0, 0]
}

function checkedName(head: Buffer): FrameName {
  const bodyBytes = head.readUInt32BE(0)
  const type = head.readUInt8(4)
  const id = head.readUInt32BE(8)
  const name = names.get(type)
  if (!name) throw illegal(`type ${type} does not exist`)
  if (head.readUIntBE(5, 3) !== 0) throw illegal(`${name} with reserved bits set`)
  if (laneNames.has(name) !== (id === 0)) throw illegal(`${name} with request id ${id}`)
  const [minimum, maximum] = boundsOf(name)
  if (bodyBytes < minimum || bodyBytes > maximum) throw illegal(`${name} of ${bodyBytes} bytes`)
  return name
}

function decodeJson(name: FrameName, body: Buffer): object {
  let json: unknown
  try {
    json = JSON.parse(utf8.decode(body))
  } catch {
    throw illegal(`${name} without valid JSON`)
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw illegal(`${name} without a JSON object`)
  return json
}

function decodePiece(body: Buffer): SealedPiece {
  const wideOffset = body.readBigUInt64BE(0)
  const length = body.readUInt32BE(8)
  const kind = body.readUInt8(12)
  if (body.readUIntBE(13, 3) !== 0) throw illegal('piece with reserved bits set')
  if (length === 0 || wideOffset + BigInt(length) > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw illegal(`piece of ${length} bytes at ${wideOffset}`)
  }
  const offset = Number(wideOffset)
  if (kind === PieceKind.data) {
    if (body.length !== pieceHeadBytes + digestBytes + length)
      throw illegal(`piece of ${length} bytes in ${body.length}`)
    return { offset, length, hole: false, sealed: decodeSealed(body.subarray(pieceHeadBytes)) }
  }
  if (kind !== PieceKind.zero && kind !== PieceKind.hole) throw illegal(`piece of kind ${kind}`)
  if (body.length !== pieceHeadBytes) throw illegal(`piece of zeros with ${body.length - pieceHeadBytes} bytes more`)
  return { offset, length, hole: kind === PieceKind.hole, sealed: undefined }
}

function decodeSealed(body: Buffer): Sealed {
  return { digest: body.subarray(0, digestBytes), bytes: withOwnMemory(body.subarray(digestBytes)) }
}

function decodeEnd(body: Buffer): number {
  const wideBytes = body.readBigUInt64BE(0)
  if (wideBytes > BigInt(Number.MAX_SAFE_INTEGER)) throw illegal(`end of a body of ${wideBytes} bytes`)
  return Number(wideBytes)
}

/** Takes a stream's chunks in any cut. A frame's body is copied once, into memory of its own. */
export class FrameDecoder {
  readonly #head = Buffer.alloc(headerBytes)
  #headFilled = 0
  #name: FrameName | undefined
  #body: Buffer = Buffer.alloc(0)
  #bodyFilled = 0

  /** True in the middle of a frame. */
  get partial(): boolean {
    return this.#headFilled > 0
  }

  /** Hands over each frame that ends in this chunk; throws LinkError 'protocol', after which the decoder is of no use. */
  push(chunk: Buffer, each: (frame: Frame) => void): void {
    let position = 0
    while (position < chunk.length) {
      if (!this.#name) {
        const taken = chunk.copy(this.#head, this.#headFilled, position)
        this.#headFilled += taken
        position += taken
        if (this.#headFilled < headerBytes) return
        this.#name = checkedName(this.#head)
        this.#body = Buffer.allocUnsafeSlow(this.#head.readUInt32BE(0))
        this.#bodyFilled = 0
      }
      const taken = chunk.copy(this.#body, this.#bodyFilled, position)
      this.#bodyFilled += taken
      position += taken
      if (this.#bodyFilled < this.#body.length) return
      each(this.#finish(this.#name))
    }
  }

  #finish(name: FrameName): Frame {
    const body = this.#body
    const id = this.#head.readUInt32BE(8)
    this.#name = undefined
    this.#headFilled = 0
    this.#body = Buffer.alloc(0)
    if (name === 'piece') return { type: name, id, piece: decodePiece(body) }
    if (name === 'part') return { type: name, id, sealed: decodeSealed(body) }
    if (name === 'end') return { type: name, id, lengthBytes: decodeEnd(body) }
    if (jsonNames.has(name)) return { type: name as JsonFrameName, id, json: decodeJson(name, body) }
    return { type: name as EmptyFrameName, id }
  }
}
