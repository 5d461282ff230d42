// Transmission on the wire: what a client sends (requests, compact and extended) and what it makes of a server's replies.
// Pure functions over a buffer and a position; a decoder returns undefined while bytes are missing and throws
// ProtocolError for bytes that cannot be right. A cookie is opaque: it is two words here and is only copied.
//
// Offsets and lengths of 64 bits are words on the wire and numbers here, without a bigint on the way. A number below 2^53
// is exact. Above, it is rounded but stays at or above 2^53, and so past the end of any export: a comparison with a size
// comes out right. The words are kept: an extended reply repeats the offset, and a message tells the true number.

import {
  Command,
  CommandFlag,
  chunkHeaderBytes,
  extendedChunkHeaderBytes,
  extendedRequestBytes,
  Magic,
  payloadMaxBytes,
  requestBytes,
  simpleReplyBytes,
} from './constants.ts'
import { ProtocolError } from './negotiation-codecs.ts'

export interface Cookie {
  readonly cookieHigh: number
  readonly cookieLow: number
}

/** What a reply repeats of its request: simple and structured ones the cookie, extended ones the offset too. */
export interface ReplyTo extends Cookie {
  readonly offsetHigh: number
  readonly offsetLow: number
}

export interface Request extends ReplyTo {
  readonly flags: number
  readonly type: number
  /** Exact below 2^53; at or above it, a number past the end of any export. */
  readonly offset: number
  /** Of the range in the export, or of a payload, as the command has it. Exact as `offset` is. */
  readonly lengthBytes: number
  readonly lengthHigh: number
  readonly lengthLow: number
  /** What follows the head, and has to be consumed whatever the answer is. */
  readonly payloadBytes: number
}

export interface SimpleReply extends Cookie {
  readonly kind: 'simple'
  readonly errorNumber: number
}

export interface ChunkHeader extends Cookie {
  readonly kind: 'chunk'
  readonly flags: number
  readonly type: number
  readonly lengthBytes: number
}

/** A chunk header that repeats its request's offset. */
export interface ExtendedChunkHeader extends ChunkHeader, ReplyTo {}

/** A range with a status, in a metadata context. `flags` is that context's own (proto.md, "Metadata contexts"). */
export interface ContextExtent {
  readonly lengthBytes: number
  readonly flags: number
}

export function wordsToNumber(high: number, low: number): number {
  return high * 2 ** 32 + low
}

/** The number that two words stand for, however large. For messages. */
export function wordsToText(high: number, low: number): string {
  const value = wordsToNumber(high, low)
  return String(Number.isSafeInteger(value) ? value : (BigInt(high) << 32n) | BigInt(low))
}

export function highWord(value: number): number {
  return Math.floor(value / 2 ** 32)
}

export function lowWord(value: number): number {
  return value >>> 0
}

/** A request as a client makes it: offset and length are safe integers, the cookie's upper half is 0. */
export function requestOf(
  type: number,
  flags: number,
  cookieLow: number,
  offset: number,
  lengthBytes: number,
): Request {
  const hasPayload = type === Command.write || (flags & CommandFlag.payloadLen) !== 0
  return {
    flags,
    type,
    cookieHigh: 0,
    cookieLow,
    offset,
    offsetHigh: highWord(offset),
    offsetLow: lowWord(offset),
    lengthBytes,
    lengthHigh: highWord(lengthBytes),
    lengthLow: lowWord(lengthBytes),
    payloadBytes: hasPayload ? lengthBytes : 0,
  }
}

/** The compact request at `at` (proto.md, "Request message"). Only WRITE has a payload there. */
export function decodeRequest(bytes: Buffer, at: number): Request | undefined {
  if (!startsWith(bytes, at, Magic.request)) return undefined
  if (bytes.length - at < requestBytes) return undefined
  const type = bytes.readUInt16BE(at + 6)
  const offsetHigh = bytes.readUInt32BE(at + 16)
  const offsetLow = bytes.readUInt32BE(at + 20)
  const lengthBytes = bytes.readUInt32BE(at + 24)
  return {
    flags: bytes.readUInt16BE(at + 4),
    type,
    cookieHigh: bytes.readUInt32BE(at + 8),
    cookieLow: bytes.readUInt32BE(at + 12),
    offset: wordsToNumber(offsetHigh, offsetLow),
    offsetHigh,
    offsetLow,
    lengthBytes,
    lengthHigh: 0,
    lengthLow: lengthBytes,
    payloadBytes: type === Command.write ? lengthBytes : 0,
  }
}

/**
 * The extended request at `at`. A payload above the maximum is a ProtocolError, as the document wants. DISC is spared
 * that: its fields may be garbage.
 */
export function decodeExtendedRequest(bytes: Buffer, at: number): Request | undefined {
  if (!startsWith(bytes, at, Magic.extendedRequest)) return undefined
  if (bytes.length - at < extendedRequestBytes) return undefined
  const flags = bytes.readUInt16BE(at + 4)
  const type = bytes.readUInt16BE(at + 6)
  const offsetHigh = bytes.readUInt32BE(at + 16)
  const offsetLow = bytes.readUInt32BE(at + 20)
  const lengthHigh = bytes.readUInt32BE(at + 24)
  const lengthLow = bytes.readUInt32BE(at + 28)
  const lengthBytes = wordsToNumber(lengthHigh, lengthLow)
  const payloadBytes = announcesPayload(type, flags) ? lengthBytes : 0
  if (payloadBytes > payloadMaxBytes) {
    throw new ProtocolError(`a request announces a payload of ${wordsToText(lengthHigh, lengthLow)} bytes`)
  }
  return {
    flags,
    type,
    cookieHigh: bytes.readUInt32BE(at + 8),
    cookieLow: bytes.readUInt32BE(at + 12),
    offset: wordsToNumber(offsetHigh, offsetLow),
    offsetHigh,
    offsetLow,
    lengthBytes,
    lengthHigh,
    lengthLow,
    payloadBytes,
  }
}

/**
 * Of an extended request. A WRITE has its payload with the flag or without: the document wants the flag, and libnbd sets
 * it, but QEMU leaves it clear, and its server takes both. Any other command has one only by the flag.
 */
function announcesPayload(type: number, flags: number): boolean {
  if (type === Command.write) return true
  return (flags & CommandFlag.payloadLen) !== 0 && type !== Command.disc
}

function startsWith(bytes: Buffer, at: number, magic: number): boolean {
  if (bytes.length - at < 4) return false
  if (bytes.readUInt32BE(at) !== magic) throw new ProtocolError('a request does not begin with its magic')
  return true
}

/** The compact form: a length of 32 bits. */
export function encodeRequest(request: Request): Buffer {
  const bytes = Buffer.alloc(requestBytes)
  writeRequestHead(bytes, Magic.request, request)
  bytes.writeUInt32BE(request.lengthLow, 24)
  return bytes
}

export function encodeExtendedRequest(request: Request): Buffer {
  const bytes = Buffer.alloc(extendedRequestBytes)
  writeRequestHead(bytes, Magic.extendedRequest, request)
  bytes.writeUInt32BE(request.lengthHigh, 24)
  bytes.writeUInt32BE(request.lengthLow, 28)
  return bytes
}

/** All but the length, which is where the two forms differ. */
function writeRequestHead(bytes: Buffer, magic: number, request: Request): void {
  bytes.writeUInt32BE(magic, 0)
  bytes.writeUInt16BE(request.flags, 4)
  bytes.writeUInt16BE(request.type, 6)
  bytes.writeUInt32BE(request.cookieHigh, 8)
  bytes.writeUInt32BE(request.cookieLow, 12)
  bytes.writeUInt32BE(request.offsetHigh, 16)
  bytes.writeUInt32BE(request.offsetLow, 20)
}

/** The head of what a server sends next, unless extended headers were agreed on. */
export function decodeReplyHeader(bytes: Buffer, at: number): SimpleReply | ChunkHeader | undefined {
  const leftBytes = bytes.length - at
  if (leftBytes < 4) return undefined
  const magic = bytes.readUInt32BE(at)
  if (magic === Magic.simpleReply) {
    if (leftBytes < simpleReplyBytes) return undefined
    return { kind: 'simple', errorNumber: bytes.readUInt32BE(at + 4), ...cookieAt(bytes, at + 8) }
  }
  if (magic !== Magic.structuredReply) throw new ProtocolError('a reply does not begin with its magic')
  if (leftBytes < chunkHeaderBytes) return undefined
  return {
    kind: 'chunk',
    flags: bytes.readUInt16BE(at + 4),
    type: bytes.readUInt16BE(at + 6),
    lengthBytes: bytes.readUInt32BE(at + 16),
    ...cookieAt(bytes, at + 8),
  }
}

/** The head of what a server sends next under extended headers: always a chunk's. */
export function decodeExtendedReplyHeader(bytes: Buffer, at: number): ExtendedChunkHeader | undefined {
  const leftBytes = bytes.length - at
  if (leftBytes < 4) return undefined
  if (bytes.readUInt32BE(at) !== Magic.extendedReply) throw new ProtocolError('a reply does not begin with its magic')
  if (leftBytes < extendedChunkHeaderBytes) return undefined
  return {
    kind: 'chunk',
    flags: bytes.readUInt16BE(at + 4),
    type: bytes.readUInt16BE(at + 6),
    ...cookieAt(bytes, at + 8),
    offsetHigh: bytes.readUInt32BE(at + 16),
    offsetLow: bytes.readUInt32BE(at + 20),
    lengthBytes: wordsToNumber(bytes.readUInt32BE(at + 24), bytes.readUInt32BE(at + 28)),
  }
}

/** The payload of an ERROR or ERROR_OFFSET chunk. Throws ProtocolError. */
export function decodeErrorPayload(payload: Buffer): { readonly errorNumber: number; readonly sentence: string } {
  if (payload.length < 6) throw new ProtocolError('an error chunk is too short')
  const lengthBytes = payload.readUInt16BE(4)
  if (lengthBytes > payload.length - 6) throw new ProtocolError('an error chunk is shorter than its sentence')
  return { errorNumber: payload.readUInt32BE(0), sentence: payload.toString('utf8', 6, 6 + lengthBytes) }
}

/** The payload of a BLOCK_STATUS chunk. Throws ProtocolError. */
export function decodeBlockStatusPayload(payload: Buffer): {
  readonly contextId: number
  readonly extents: readonly ContextExtent[]
} {
  if (payload.length < 12 || payload.length % 8 !== 4)
    throw new ProtocolError('a block status chunk has a broken length')
  const extents: ContextExtent[] = []
  for (let at = 4; at < payload.length; at += 8) {
    extents.push({ lengthBytes: payload.readUInt32BE(at), flags: payload.readUInt32BE(at + 4) })
  }
  return { contextId: payload.readUInt32BE(0), extents }
}

/** The payload of a BLOCK_STATUS_EXT chunk. Lengths and flags above 2^53 are beyond this client. Throws ProtocolError. */
export function decodeBlockStatusExtPayload(payload: Buffer): {
  readonly contextId: number
  readonly extents: readonly ContextExtent[]
} {
  const broken = payload.length < 24 || payload.length % 16 !== 8
  if (broken || payload.readUInt32BE(4) !== (payload.length - 8) / 16) {
    throw new ProtocolError('a block status chunk has a broken length')
  }
  const extents: ContextExtent[] = []
  for (let at = 8; at < payload.length; at += 16) {
    const lengthBytes = wordsToNumber(payload.readUInt32BE(at), payload.readUInt32BE(at + 4))
    const flags = wordsToNumber(payload.readUInt32BE(at + 8), payload.readUInt32BE(at + 12))
    if (!Number.isSafeInteger(lengthBytes) || !Number.isSafeInteger(flags)) {
      throw new ProtocolError('an extent has a length or flags beyond 2^53')
    }
    extents.push({ lengthBytes, flags })
  }
  return { contextId: payload.readUInt32BE(0), extents }
}

function cookieAt(bytes: Buffer, at: number): Cookie {
  return { cookieHigh: bytes.readUInt32BE(at), cookieLow: bytes.readUInt32BE(at + 4) }
}
