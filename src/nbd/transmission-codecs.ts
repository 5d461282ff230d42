// Transmission on the wire: requests, simple replies and structured reply chunks. Pure functions over a buffer and a
// position; the caller has checked that the fixed-size head is there. A cookie is opaque: it is two words here and is only copied.

import {
  ChunkFlag,
  ChunkType,
  chunkHeaderBytes,
  ErrorNumber,
  Magic,
  requestBytes,
  simpleReplyBytes,
  stringMaxBytes,
} from './constants.ts'
import type { NbdErrorCode, StatusExtent } from './export.ts'
import { ProtocolError } from './negotiation-codecs.ts'

export interface Cookie {
  readonly cookieHigh: number
  readonly cookieLow: number
}

export interface Request extends Cookie {
  readonly flags: number
  readonly type: number
  readonly offset: bigint
  readonly lengthBytes: number
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

/** The request at `at`, or undefined while bytes are missing. Throws ProtocolError on a wrong magic. */
export function decodeRequest(bytes: Buffer, at: number): Request | undefined {
  if (bytes.length - at >= 4 && bytes.readUInt32BE(at) !== Magic.request) {
    throw new ProtocolError('a request does not begin with its magic')
  }
  if (bytes.length - at < requestBytes) return undefined
  return {
    flags: bytes.readUInt16BE(at + 4),
    type: bytes.readUInt16BE(at + 6),
    cookieHigh: bytes.readUInt32BE(at + 8),
    cookieLow: bytes.readUInt32BE(at + 12),
    offset: bytes.readBigUInt64BE(at + 16),
    lengthBytes: bytes.readUInt32BE(at + 24),
  }
}

export function encodeRequest(request: Request): Buffer {
  const bytes = Buffer.alloc(requestBytes)
  bytes.writeUInt32BE(Magic.request, 0)
  bytes.writeUInt16BE(request.flags, 4)
  bytes.writeUInt16BE(request.type, 6)
  bytes.writeUInt32BE(request.cookieHigh, 8)
  bytes.writeUInt32BE(request.cookieLow, 12)
  bytes.writeBigUInt64BE(request.offset, 16)
  bytes.writeUInt32BE(request.lengthBytes, 24)
  return bytes
}

export function writeSimpleReply(target: Buffer, at: number, cookie: Cookie, errorNumber: number): void {
  target.writeUInt32BE(Magic.simpleReply, at)
  target.writeUInt32BE(errorNumber, at + 4)
  target.writeUInt32BE(cookie.cookieHigh, at + 8)
  target.writeUInt32BE(cookie.cookieLow, at + 12)
}

/** The head of a structured reply chunk whose payload has `lengthBytes`. */
export function writeChunkHeader(
  target: Buffer,
  at: number,
  cookie: Cookie,
  flags: number,
  type: number,
  lengthBytes: number,
): void {
  target.writeUInt32BE(Magic.structuredReply, at)
  target.writeUInt16BE(flags, at + 4)
  target.writeUInt16BE(type, at + 6)
  target.writeUInt32BE(cookie.cookieHigh, at + 8)
  target.writeUInt32BE(cookie.cookieLow, at + 12)
  target.writeUInt32BE(lengthBytes, at + 16)
}

/** The head of an OFFSET_DATA chunk, up to where its bytes begin. */
export function writeOffsetDataHeader(
  target: Buffer,
  at: number,
  cookie: Cookie,
  flags: number,
  offset: number,
  lengthBytes: number,
): void {
  writeChunkHeader(target, at, cookie, flags, ChunkType.offsetData, lengthBytes + 8)
  writeOffset(target, at + chunkHeaderBytes, offset)
}

export function writeOffsetHole(
  target: Buffer,
  at: number,
  cookie: Cookie,
  flags: number,
  offset: number,
  lengthBytes: number,
): void {
  writeChunkHeader(target, at, cookie, flags, ChunkType.offsetHole, 12)
  writeOffset(target, at + chunkHeaderBytes, offset)
  target.writeUInt32BE(lengthBytes, at + chunkHeaderBytes + 8)
}

/** A safe integer as 64 bits, without a bigint on the way. */
function writeOffset(target: Buffer, at: number, offset: number): void {
  target.writeUInt32BE(Math.floor(offset / 2 ** 32), at)
  target.writeUInt32BE(offset >>> 0, at + 4)
}

/** An error chunk with its sentence, the last of its reply. */
export function encodeErrorChunk(cookie: Cookie, code: NbdErrorCode, sentence: string): Buffer {
  const text = truncateText(sentence, stringMaxBytes)
  const bytes = Buffer.alloc(chunkHeaderBytes + 6 + text.length)
  writeChunkHeader(bytes, 0, cookie, ChunkFlag.done, ChunkType.error, 6 + text.length)
  bytes.writeUInt32BE(ErrorNumber[code], chunkHeaderBytes)
  bytes.writeUInt16BE(text.length, chunkHeaderBytes + 4)
  text.copy(bytes, chunkHeaderBytes + 6)
  return bytes
}

export function encodeBlockStatusChunk(
  cookie: Cookie,
  flags: number,
  contextId: number,
  extents: readonly StatusExtent[],
): Buffer {
  const bytes = Buffer.alloc(chunkHeaderBytes + 4 + extents.length * 8)
  writeChunkHeader(bytes, 0, cookie, flags, ChunkType.blockStatus, 4 + extents.length * 8)
  bytes.writeUInt32BE(contextId, chunkHeaderBytes)
  let at = chunkHeaderBytes + 4
  for (const extent of extents) {
    bytes.writeUInt32BE(extent.lengthBytes, at)
    bytes.writeUInt32BE(extent.flags, at + 4)
    at += 8
  }
  return bytes
}

/** The head of what a server sends next, or undefined while bytes are missing. Throws ProtocolError. */
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
  readonly extents: readonly StatusExtent[]
} {
  if (payload.length < 12 || payload.length % 8 !== 4)
    throw new ProtocolError('a block status chunk has a broken length')
  const extents: StatusExtent[] = []
  for (let at = 4; at < payload.length; at += 8) {
    extents.push({ lengthBytes: payload.readUInt32BE(at), flags: payload.readUInt32BE(at + 4) })
  }
  return { contextId: payload.readUInt32BE(0), extents }
}

function cookieAt(bytes: Buffer, at: number): Cookie {
  return { cookieHigh: bytes.readUInt32BE(at), cookieLow: bytes.readUInt32BE(at + 4) }
}

/** UTF-8 of at most `maxBytes`, never cut within a character. */
export function truncateText(text: string, maxBytes: number): Buffer {
  const bytes = Buffer.from(text)
  if (bytes.length <= maxBytes) return bytes
  let end = maxBytes
  while (end > 0 && (bytes[end]! & 0xc0) === 0x80) end--
  return bytes.subarray(0, end)
}
