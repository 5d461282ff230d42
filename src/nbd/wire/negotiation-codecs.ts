// Negotiation on the wire, both directions: bytes in, message out, and back. Pure functions; a decoder returns undefined
// while bytes are missing and throws ProtocolError for bytes that cannot be right. Nothing is read past a checked length.

import { HandshakeFlag, InfoType, Magic, stringMaxBytes } from './constants.ts'

/** The other side does not speak the protocol; the connection cannot go on. */
export class ProtocolError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'ProtocolError'
  }
}

/** A request within a well-formed option that cannot be granted: it becomes NBD_REP_ERR_INVALID or ERR_TOO_BIG. */
export class OptionError extends Error {
  readonly tooBig: boolean
  constructor(message: string, tooBig = false) {
    super(message)
    this.name = 'OptionError'
    this.tooBig = tooBig
  }
}

export interface OptionHeader {
  readonly type: number
  readonly lengthBytes: number
}

export interface OptionReplyHeader {
  readonly option: number
  readonly type: number
  readonly lengthBytes: number
}

export interface InfoRequest {
  readonly exportName: string
  readonly infos: readonly number[]
}

export interface MetaContextRequest {
  readonly exportName: string
  readonly queries: readonly string[]
}

export const greetingBytes = 18
export const clientFlagsBytes = 4
export const optionHeaderBytes = 16
export const optionReplyHeaderBytes = 20

export function encodeGreeting(): Buffer {
  const bytes = Buffer.alloc(greetingBytes)
  bytes.writeBigUInt64BE(Magic.nbdMagic, 0)
  bytes.writeBigUInt64BE(Magic.iHaveOpt, 8)
  bytes.writeUInt16BE(HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes, 16)
  return bytes
}

/** The handshake flags of a server's greeting. */
export function decodeGreeting(bytes: Buffer): { readonly flags: number } | undefined {
  if (bytes.length >= 8 && bytes.readBigUInt64BE(0) !== Magic.nbdMagic) throw new ProtocolError('this is no NBD server')
  if (bytes.length < greetingBytes) return undefined
  if (bytes.readBigUInt64BE(8) !== Magic.iHaveOpt) throw new ProtocolError('the NBD server speaks oldstyle only')
  return { flags: bytes.readUInt16BE(16) }
}

export function encodeClientFlags(flags: number): Buffer {
  const bytes = Buffer.alloc(clientFlagsBytes)
  bytes.writeUInt32BE(flags, 0)
  return bytes
}

export function decodeClientFlags(bytes: Buffer): number | undefined {
  return bytes.length < clientFlagsBytes ? undefined : bytes.readUInt32BE(0)
}

export function encodeOption(type: number, payload: Uint8Array = new Uint8Array(0)): Buffer {
  const bytes = Buffer.alloc(optionHeaderBytes + payload.length)
  bytes.writeBigUInt64BE(Magic.iHaveOpt, 0)
  bytes.writeUInt32BE(type, 8)
  bytes.writeUInt32BE(payload.length, 12)
  bytes.set(payload, optionHeaderBytes)
  return bytes
}

export function decodeOptionHeader(bytes: Buffer): OptionHeader | undefined {
  if (bytes.length >= 8 && bytes.readBigUInt64BE(0) !== Magic.iHaveOpt) {
    throw new ProtocolError('an option does not begin with IHAVEOPT')
  }
  if (bytes.length < optionHeaderBytes) return undefined
  return { type: bytes.readUInt32BE(8), lengthBytes: bytes.readUInt32BE(12) }
}

export function encodeOptionReply(option: number, type: number, payload: Uint8Array = new Uint8Array(0)): Buffer {
  const bytes = Buffer.alloc(optionReplyHeaderBytes + payload.length)
  bytes.writeBigUInt64BE(Magic.optionReply, 0)
  bytes.writeUInt32BE(option, 8)
  bytes.writeUInt32BE(type, 12)
  bytes.writeUInt32BE(payload.length, 16)
  bytes.set(payload, optionReplyHeaderBytes)
  return bytes
}

export function decodeOptionReplyHeader(bytes: Buffer): OptionReplyHeader | undefined {
  if (bytes.length >= 8 && bytes.readBigUInt64BE(0) !== Magic.optionReply) {
    throw new ProtocolError('an option reply does not begin with its magic')
  }
  if (bytes.length < optionReplyHeaderBytes) return undefined
  return { option: bytes.readUInt32BE(8), type: bytes.readUInt32BE(12), lengthBytes: bytes.readUInt32BE(16) }
}

/** An export or context name: UTF-8 without NUL, at most 4096 bytes. Throws OptionError. */
export function decodeName(bytes: Uint8Array): string {
  if (bytes.length > stringMaxBytes) throw new OptionError(`a name has at most ${stringMaxBytes} bytes`, true)
  let name: string
  try {
    name = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw new OptionError('a name must be UTF-8')
  }
  if (name.includes('\0')) throw new OptionError('a name has no NUL')
  return name
}

/** Reads counted strings and numbers of an option's payload; every step is checked. */
class PayloadReader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  uint16(): number {
    return this.#take(2).readUInt16BE(0)
  }

  uint32(): number {
    return this.#take(4).readUInt32BE(0)
  }

  name(): string {
    return decodeName(this.#take(this.uint32()))
  }

  get leftBytes(): number {
    return this.#bytes.length - this.#at
  }

  #take(lengthBytes: number): Buffer {
    if (lengthBytes > this.leftBytes) throw new OptionError('the option is shorter than it says')
    const part = this.#bytes.subarray(this.#at, this.#at + lengthBytes)
    this.#at += lengthBytes
    return part
  }
}

/** NBD_OPT_INFO and NBD_OPT_GO. Throws OptionError. */
export function decodeInfoRequest(payload: Buffer): InfoRequest {
  const reader = new PayloadReader(payload)
  const exportName = reader.name()
  const count = reader.uint16()
  if (reader.leftBytes !== count * 2) throw new OptionError('the option is not as long as its count of infos says')
  const infos: number[] = []
  for (let index = 0; index < count; index++) infos.push(reader.uint16())
  return { exportName, infos }
}

export function encodeInfoRequest(request: InfoRequest): Buffer {
  const infos = Buffer.alloc(2 + request.infos.length * 2)
  infos.writeUInt16BE(request.infos.length, 0)
  request.infos.forEach((info, index) => {
    infos.writeUInt16BE(info, 2 + index * 2)
  })
  return Buffer.concat([countedName(request.exportName), infos])
}

/** NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. Throws OptionError. */
export function decodeMetaContextRequest(payload: Buffer): MetaContextRequest {
  const reader = new PayloadReader(payload)
  const exportName = reader.name()
  const count = reader.uint32()
  // A query has at least its 4 bytes of length: the count is bounded by the payload before the loop trusts it.
  if (count * 4 > reader.leftBytes) throw new OptionError('the option is shorter than its count of queries says')
  const queries: string[] = []
  for (let index = 0; index < count; index++) queries.push(reader.name())
  if (reader.leftBytes !== 0) throw new OptionError('the option is longer than its queries')
  return { exportName, queries }
}

export function encodeMetaContextRequest(request: MetaContextRequest): Buffer {
  const count = Buffer.alloc(4)
  count.writeUInt32BE(request.queries.length, 0)
  return Buffer.concat([countedName(request.exportName), count, ...request.queries.map(countedName)])
}

/** NBD_REP_META_CONTEXT: an id and a name. */
export function encodeMetaContext(id: number, name: string): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(id, 0)
  return Buffer.concat([bytes, Buffer.from(name)])
}

export function decodeMetaContext(payload: Buffer): { readonly id: number; readonly name: string } {
  if (payload.length < 4) throw new ProtocolError('a metadata context reply is too short')
  return { id: payload.readUInt32BE(0), name: decodeName(payload.subarray(4)) }
}

/** NBD_REP_SERVER: one name of a list. What follows the name is for people and is left out. */
export function encodeServerName(name: string): Buffer {
  return countedName(name)
}

export function decodeServerName(payload: Buffer): string {
  return new PayloadReader(payload).name()
}

/** NBD_INFO_EXPORT. Sizes are safe integers. */
export function encodeInfoExport(sizeBytes: number, flags: number): Buffer {
  const bytes = Buffer.alloc(12)
  bytes.writeUInt16BE(InfoType.export, 0)
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 2)
  bytes.writeUInt16BE(flags, 10)
  return bytes
}

export function encodeInfoBlockSize(minimum: number, preferred: number, maximum: number): Buffer {
  const bytes = Buffer.alloc(14)
  bytes.writeUInt16BE(InfoType.blockSize, 0)
  bytes.writeUInt32BE(minimum, 2)
  bytes.writeUInt32BE(preferred, 6)
  bytes.writeUInt32BE(maximum, 10)
  return bytes
}

/** NBD_INFO_NAME and NBD_INFO_DESCRIPTION. */
export function encodeInfoText(type: number, text: string): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(type, 0)
  return Buffer.concat([bytes, Buffer.from(text)])
}

/** The answer to NBD_OPT_EXPORT_NAME, which has no header; the zeros are the spec's oldest trait. */
export function encodeExportNameReply(sizeBytes: number, flags: number, withZeroes: boolean): Buffer {
  const bytes = Buffer.alloc(withZeroes ? 134 : 10)
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 0)
  bytes.writeUInt16BE(flags, 8)
  return bytes
}

function countedName(name: string): Buffer {
  const text = Buffer.from(name)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(text.length, 0)
  return Buffer.concat([length, text])
}
