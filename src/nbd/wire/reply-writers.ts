// What a server sends in the transmission phase: simple replies, structured chunks, extended chunks. The one place that
// knows how the three differ (proto.md, "Simple reply message", "Structured reply chunk message", "Extended reply chunk
// message"). Pure functions over a buffer and a position. Offsets and lengths of an answer are safe integers; what a reply
// repeats of its request is copied word by word.

import {
  ChunkFlag,
  ChunkType,
  Command,
  chunkHeaderBytes,
  ErrorNumber,
  extendedChunkHeaderBytes,
  Magic,
  simpleReplyBytes,
  stringMaxBytes,
} from './constants.ts'
import type { NbdErrorCode } from './error-values.ts'
import {
  type ContextExtent,
  type Cookie,
  highWord,
  lowWord,
  type ReplyTo,
  type Request,
} from './transmission-codecs.ts'

/** The offset that precedes the bytes of an OFFSET_DATA chunk. */
const dataOffsetBytes = 8
/** Offset and length of an OFFSET_HOLE. */
const holePayloadBytes = 12

export interface ReplyStyle {
  readonly name: 'simple' | 'structured' | 'extended'
  /** Replies may come as chunks: holes in a READ, sentences of errors and statuses can travel. */
  readonly hasChunks: boolean
  /** Requests and replies have extended headers. */
  readonly isExtended: boolean
  /** A reply, or a chunk, without payload. */
  readonly headBytes: number
  /** What stands before the bytes of a READ that is answered whole. */
  readonly readHeadBytes: number
}

/** What was negotiated: nothing, STRUCTURED_REPLY, or EXTENDED_HEADERS, which takes precedence. */
export const replyStyles = {
  simple: {
    name: 'simple',
    hasChunks: false,
    isExtended: false,
    headBytes: simpleReplyBytes,
    readHeadBytes: simpleReplyBytes,
  },
  structured: {
    name: 'structured',
    hasChunks: true,
    isExtended: false,
    headBytes: chunkHeaderBytes,
    readHeadBytes: chunkHeaderBytes + dataOffsetBytes,
  },
  extended: {
    name: 'extended',
    hasChunks: true,
    isExtended: true,
    headBytes: extendedChunkHeaderBytes,
    readHeadBytes: extendedChunkHeaderBytes + dataOffsetBytes,
  },
} as const satisfies Record<string, ReplyStyle>

export function writeSimpleReply(target: Buffer, at: number, cookie: Cookie, errorNumber: number): void {
  target.writeUInt32BE(Magic.simpleReply, at)
  target.writeUInt32BE(errorNumber, at + 4)
  target.writeUInt32BE(cookie.cookieHigh, at + 8)
  target.writeUInt32BE(cookie.cookieLow, at + 12)
}

/** The head of a chunk, structured or extended, whose payload has `lengthBytes`. */
export function writeChunkHeader(
  target: Buffer,
  at: number,
  style: ReplyStyle,
  to: ReplyTo,
  flags: number,
  type: number,
  lengthBytes: number,
): void {
  target.writeUInt32BE(style.isExtended ? Magic.extendedReply : Magic.structuredReply, at)
  target.writeUInt16BE(flags, at + 4)
  target.writeUInt16BE(type, at + 6)
  target.writeUInt32BE(to.cookieHigh, at + 8)
  target.writeUInt32BE(to.cookieLow, at + 12)
  if (!style.isExtended) {
    target.writeUInt32BE(lengthBytes, at + 16)
    return
  }
  target.writeUInt32BE(to.offsetHigh, at + 16)
  target.writeUInt32BE(to.offsetLow, at + 20)
  writeUInt64(target, at + 24, lengthBytes)
}

/** What stands before the bytes of a READ that is answered whole: `style.readHeadBytes`. */
export function writeReadHead(target: Buffer, at: number, style: ReplyStyle, request: Request): void {
  if (style.hasChunks) {
    writeOffsetDataHeader(target, at, style, request, ChunkFlag.done, request.offset, request.lengthBytes)
  } else {
    writeSimpleReply(target, at, request, 0)
  }
}

/** How many bytes writeDone() writes. A structured reply without payload may be a simple one, to all but a READ. */
export function doneBytes(style: ReplyStyle, request: Request): number {
  return style.isExtended || request.type === Command.read ? style.headBytes : simpleReplyBytes
}

/** Success without bytes. A READ of nothing is answered so too: in chunks, a lone DONE. */
export function writeDone(target: Buffer, at: number, style: ReplyStyle, request: Request): void {
  if (doneBytes(style, request) === simpleReplyBytes) writeSimpleReply(target, at, request, 0)
  else writeChunkHeader(target, at, style, request, ChunkFlag.done, ChunkType.none, 0)
}

/** The head of an OFFSET_DATA chunk, up to where its bytes begin: `style.readHeadBytes`. */
export function writeOffsetDataHeader(
  target: Buffer,
  at: number,
  style: ReplyStyle,
  to: ReplyTo,
  flags: number,
  offset: number,
  lengthBytes: number,
): void {
  writeChunkHeader(target, at, style, to, flags, ChunkType.offsetData, dataOffsetBytes + lengthBytes)
  writeUInt64(target, at + style.headBytes, offset)
}

/** The size of an OFFSET_HOLE chunk. */
export function holeChunkBytes(style: ReplyStyle): number {
  return style.headBytes + holePayloadBytes
}

/** Extended or not, a hole has a length of 32 bits: no READ is longer. */
export function writeOffsetHole(
  target: Buffer,
  at: number,
  style: ReplyStyle,
  to: ReplyTo,
  flags: number,
  offset: number,
  lengthBytes: number,
): void {
  writeChunkHeader(target, at, style, to, flags, ChunkType.offsetHole, holePayloadBytes)
  writeUInt64(target, at + style.headBytes, offset)
  target.writeUInt32BE(lengthBytes, at + style.headBytes + dataOffsetBytes)
}

/** An error chunk with its sentence, the last of its reply. */
export function encodeErrorChunk(style: ReplyStyle, to: ReplyTo, code: NbdErrorCode, sentence: string): Buffer {
  const text = truncateText(sentence, stringMaxBytes)
  const bytes = Buffer.alloc(style.headBytes + 6 + text.length)
  writeChunkHeader(bytes, 0, style, to, ChunkFlag.done, ChunkType.error, 6 + text.length)
  bytes.writeUInt32BE(ErrorNumber[code], style.headBytes)
  bytes.writeUInt16BE(text.length, style.headBytes + 4)
  text.copy(bytes, style.headBytes + 6)
  return bytes
}

/** BLOCK_STATUS, or BLOCK_STATUS_EXT under extended headers, however short the extents are. */
export function encodeBlockStatusChunk(
  style: ReplyStyle,
  to: ReplyTo,
  flags: number,
  contextId: number,
  extents: readonly ContextExtent[],
): Buffer {
  const lengthBytes = style.isExtended ? 8 + extents.length * 16 : 4 + extents.length * 8
  const type = style.isExtended ? ChunkType.blockStatusExt : ChunkType.blockStatus
  const bytes = Buffer.alloc(style.headBytes + lengthBytes)
  writeChunkHeader(bytes, 0, style, to, flags, type, lengthBytes)
  let at = bytes.writeUInt32BE(contextId, style.headBytes)
  if (style.isExtended) at = bytes.writeUInt32BE(extents.length, at)
  for (const extent of extents) {
    if (style.isExtended) {
      writeUInt64(bytes, at, extent.lengthBytes)
      writeUInt64(bytes, at + 8, extent.flags)
      at += 16
    } else {
      bytes.writeUInt32BE(extent.lengthBytes, at)
      bytes.writeUInt32BE(extent.flags, at + 4)
      at += 8
    }
  }
  return bytes
}

/** A safe integer as 64 bits, without a bigint on the way. */
function writeUInt64(target: Buffer, at: number, value: number): void {
  target.writeUInt32BE(highWord(value), at)
  target.writeUInt32BE(lowWord(value), at + 4)
}

/** UTF-8 of at most `maxBytes`, never cut within a character. */
export function truncateText(text: string, maxBytes: number): Buffer {
  const bytes = Buffer.from(text)
  if (bytes.length <= maxBytes) return bytes
  let end = maxBytes
  while (end > 0 && (bytes[end]! & 0xc0) === 0x80) end--
  return bytes.subarray(0, end)
}
