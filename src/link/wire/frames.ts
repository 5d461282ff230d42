// The wire format of a lane: bytes to frames and back. Pure: no stream, no clock. All integers are big-endian.
//
//   frame  = u32 body length | u8 type | 3 zero bytes | u32 request id | body
//   body   = JSON object (hello, call, reply, error, fetch) | nothing (cancel, done, ping, pong) | piece
//   piece  = u64 offset | u32 length | u8 kind | 3 zero bytes | for kind data: SHA-256 of the bytes, the bytes
//
// A length is checked against its type's bound before a byte is allocated for it. Bytes whose digest is wrong never leave.

import { createHash, type Hash, hash } from 'node:crypto'
import { withOwnMemory } from '../../block/own-memory.ts'
import { LinkError, type Piece } from '../channel.ts'

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
} as const

export type FrameName = keyof typeof FrameType
export type JsonFrameName = 'hello' | 'call' | 'reply' | 'error' | 'fetch'
export type EmptyFrameName = 'cancel' | 'done' | 'ping' | 'pong'

export type Frame =
  | { readonly type: JsonFrameName; readonly id: number; readonly json: object }
  | { readonly type: EmptyFrameName; readonly id: number }
  | { readonly type: 'piece'; readonly id: number; readonly piece: Piece }

export const PieceKind = { data: 0, zero: 1, hole: 2 } as const

export const headerBytes = 12
export const maximumJsonBytes = 256 * 1024
/** SHA-256 of 1 MiB takes 0.6 ms: below the 2 ms that a loop serving guests may give to one thing. */
export const maximumPieceBytes = 1024 * 1024
export const maximumRequestId = 0xffffffff
const maximumZeroBytes = 0xffffffff
const pieceHeadBytes = 16
const digestBytes = 32
/** Where the bytes of a piece of data begin in its body. */
const dataAt = pieceHeadBytes + digestBytes

const names = new Map<number, FrameName>(Object.entries(FrameType).map(([name, value]) => [value, name as FrameName]))
const jsonNames: ReadonlySet<FrameName> = new Set(['hello', 'call', 'reply', 'error', 'fetch'])
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
 * `piece.bytes` is returned as it is, never copied: it must not change until it is written. `digest`: its SHA-256, which is
 * found here, all at once, if it is not given.
 */
export function encodePiece(id: number, piece: Piece, digest?: Buffer): Uint8Array[] {
  const { offset, length, bytes } = piece
  const maximum = bytes ? maximumPieceBytes : maximumZeroBytes
  if (!(length >= 1 && length <= maximum) || (bytes && bytes.length !== length)) {
    throw new RangeError(`a piece of ${length} bytes at ${offset} cannot be one frame`)
  }
  const restBytes = bytes ? digestBytes : 0
  const head = header('piece', id, pieceHeadBytes + restBytes + (bytes?.length ?? 0), pieceHeadBytes + restBytes)
  head.writeBigUInt64BE(BigInt(offset), headerBytes)
  head.writeUInt32BE(length, headerBytes + 8)
  head.writeUInt8(bytes ? PieceKind.data : piece.hole ? PieceKind.hole : PieceKind.zero, headerBytes + 12)
  if (!bytes) return [head]
  const found = digest ?? hash('sha256', bytes, 'buffer')
  found.copy(head, headerBytes + pieceHeadBytes)
  return [head, bytes]
}

/** Cuts zeros and bytes into what one frame holds. */
export function* splitPiece(piece: Piece): Generator<Piece> {
  const maximum = piece.bytes ? maximumPieceBytes : 2 ** 31
  if (piece.length <= maximum) {
    yield piece
    return
  }
  for (let start = 0; start < piece.length; start += maximum) {
    const length = Math.min(maximum, piece.length - start)
    yield { ...piece, offset: piece.offset + start, length, bytes: piece.bytes?.subarray(start, start + length) }
  }
}

function checkedName(head: Buffer): FrameName {
  const bodyBytes = head.readUInt32BE(0)
  const type = head.readUInt8(4)
  const id = head.readUInt32BE(8)
  const name = names.get(type)
  if (!name) throw illegal(`type ${type} does not exist`)
  if (head.readUIntBE(5, 3) !== 0) throw illegal(`${name} with reserved bits set`)
  if (laneNames.has(name) !== (id === 0)) throw illegal(`${name} with request id ${id}`)
  const [minimum, maximum] = jsonNames.has(name)
    ? [2, maximumJsonBytes]
    : name === 'piece'
      ? [pieceHeadBytes, pieceHeadBytes + digestBytes + maximumPieceBytes]
      : [0, 0]
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

/** `actual`: the digest of what lies behind the digest in the body. */
function decodePiece(body: Buffer, actual: Buffer): Piece {
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
    const bytes = body.subarray(pieceHeadBytes + digestBytes)
    const digest = body.subarray(pieceHeadBytes, pieceHeadBytes + digestBytes)
    if (!actual.equals(digest)) throw illegal(`piece at ${offset} does not match its digest`)
    return { offset, length, bytes: withOwnMemory(bytes) }
  }
  if (kind !== PieceKind.zero && kind !== PieceKind.hole) throw illegal(`piece of kind ${kind}`)
  if (body.length !== pieceHeadBytes) throw illegal(`piece of zeros with ${body.length - pieceHeadBytes} bytes more`)
  return { offset, length, bytes: undefined, hole: kind === PieceKind.hole }
}

/**
 * Takes a stream's chunks in any cut. A frame's body is copied once, into memory of its own, and hashed as it comes: no
 * chunk takes much longer than another.
 */
export class FrameDecoder {
  readonly #head = Buffer.alloc(headerBytes)
  #headFilled = 0
  #name: FrameName | undefined
  #body: Buffer = Buffer.alloc(0)
  #bodyFilled = 0
  #hash: Hash | undefined

  /** True in the middle of a frame. */
  get partial(): boolean {
    return this.#headFilled > 0
  }

  /** Yields the frames that end in this chunk; throws LinkError 'protocol', after which the decoder is of no use. */
  *push(chunk: Buffer): Generator<Frame> {
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
        this.#hash = this.#name === 'piece' ? createHash('sha256') : undefined
      }
      const taken = chunk.copy(this.#body, this.#bodyFilled, position)
      this.#hash?.update(this.#body.subarray(Math.max(this.#bodyFilled, dataAt), this.#bodyFilled + taken))
      this.#bodyFilled += taken
      position += taken
      if (this.#bodyFilled < this.#body.length) return
      yield this.#finish(this.#name)
    }
  }

  #finish(name: FrameName): Frame {
    const body = this.#body
    const id = this.#head.readUInt32BE(8)
    this.#name = undefined
    this.#headFilled = 0
    this.#body = Buffer.alloc(0)
    if (name === 'piece') return { type: 'piece', id, piece: decodePiece(body, this.#hash!.digest()) }
    if (jsonNames.has(name)) return { type: name as JsonFrameName, id, json: decodeJson(name, body) }
    return { type: name as EmptyFrameName, id }
  }
}
