// Generic netlink on the wire, both directions (<linux/netlink.h>, <linux/genetlink.h>): messages of attributes. Pure.
// A decoder checks every length before it uses it, and throws NetlinkFormatError for bytes that cannot be right. Numbers are
// in the machine's own order, which is little-endian here.

export class NetlinkFormatError extends Error {
  constructor(reason: string) {
    super(`the kernel's netlink message is broken: ${reason}`)
    this.name = 'NetlinkFormatError'
  }
}

/** <linux/netlink.h>, "Flags values". */
export const MessageFlag = { request: 1, ack: 4 } as const
/** NLMSG_ERROR: the answer to a request that has failed, or, with the error 0, has been done. */
export const errorType = 2

const messageHeaderBytes = 16
const genericHeaderBytes = 4
const attributeHeaderBytes = 4
/** NLMSG_ALIGNTO and NLA_ALIGNTO. */
const alignBytes = 4
/** NLA_TYPE_MASK: above it are flags. */
const attributeTypeMask = 0x3fff

export interface Message {
  readonly type: number
  readonly sequence: number
  readonly payload: Buffer
}

export interface Attribute {
  readonly type: number
  readonly payload: Buffer
}

export interface GenericRequest {
  /** The family's id. */
  readonly family: number
  readonly sequence: number
  readonly command: number
  readonly version: number
  /** Encoded ones. */
  readonly attributes: readonly Buffer[]
}

export function encodeRequest({ family, sequence, command, version, attributes }: GenericRequest): Buffer {
  const header = Buffer.alloc(messageHeaderBytes + genericHeaderBytes)
  const bytes = Buffer.concat([header, ...attributes])
  bytes.writeUInt32LE(bytes.length, 0)
  bytes.writeUInt16LE(family, 4)
  bytes.writeUInt16LE(MessageFlag.request | MessageFlag.ack, 6)
  bytes.writeUInt32LE(sequence, 8)
  bytes.writeUInt8(command, messageHeaderBytes)
  bytes.writeUInt8(version, messageHeaderBytes + 1)
  return bytes
}

export function encodeAttribute(type: number, payload: Uint8Array): Buffer {
  const lengthBytes = attributeHeaderBytes + payload.length
  const bytes = Buffer.alloc(aligned(lengthBytes))
  bytes.writeUInt16LE(lengthBytes, 0)
  bytes.writeUInt16LE(type, 2)
  bytes.set(payload, attributeHeaderBytes)
  return bytes
}

export function uint32Attribute(type: number, value: number): Buffer {
  const payload = Buffer.alloc(4)
  payload.writeUInt32LE(value)
  return encodeAttribute(type, payload)
}

/** `value` is a safe integer. */
export function uint64Attribute(type: number, value: number): Buffer {
  const payload = Buffer.alloc(8)
  payload.writeBigUInt64LE(BigInt(value))
  return encodeAttribute(type, payload)
}

export function textAttribute(type: number, text: string): Buffer {
  return encodeAttribute(type, Buffer.from(`${text}\0`))
}

/** One datagram. @throws NetlinkFormatError */
export function decodeMessages(bytes: Buffer): Message[] {
  return partsOf(bytes, messageHeaderBytes, 'a message', (at) => bytes.readUInt32LE(at)).map((part) => ({
    type: part.readUInt16LE(4),
    sequence: part.readUInt32LE(8),
    payload: part.subarray(messageHeaderBytes),
  }))
}

/** The errno of an error message; 0: it was done. @throws NetlinkFormatError */
export function decodeError(payload: Buffer): number {
  if (payload.length < 4) throw new NetlinkFormatError('an error has no number')
  return Math.abs(payload.readInt32LE(0))
}

/** @throws NetlinkFormatError */
export function decodeGeneric(payload: Buffer): { readonly command: number; readonly attributes: Attribute[] } {
  if (payload.length < genericHeaderBytes) throw new NetlinkFormatError('a message has no command')
  return { command: payload.readUInt8(0), attributes: decodeAttributes(payload.subarray(genericHeaderBytes)) }
}

/** @throws NetlinkFormatError */
export function decodeAttributes(bytes: Buffer): Attribute[] {
  return partsOf(bytes, attributeHeaderBytes, 'an attribute', (at) => bytes.readUInt16LE(at)).map((part) => ({
    type: part.readUInt16LE(2) & attributeTypeMask,
    payload: part.subarray(attributeHeaderBytes),
  }))
}

/** The first attribute of this type. @throws NetlinkFormatError when it is missing, or shorter than a number is */
export function uint16Of(attributes: readonly Attribute[], type: number): number {
  return payloadOf(attributes, type, 2).readUInt16LE(0)
}

export function uint32Of(attributes: readonly Attribute[], type: number): number {
  return payloadOf(attributes, type, 4).readUInt32LE(0)
}

export function textOf(attributes: readonly Attribute[], type: number): string {
  const payload = payloadOf(attributes, type, 0)
  const end = payload.indexOf(0)
  return payload.toString('utf8', 0, end === -1 ? payload.length : end)
}

function payloadOf(attributes: readonly Attribute[], type: number, minimumBytes: number): Buffer {
  const payload = attributes.find((attribute) => attribute.type === type)?.payload
  if (payload === undefined) throw new NetlinkFormatError(`attribute ${type} is missing`)
  if (payload.length < minimumBytes) throw new NetlinkFormatError(`attribute ${type} has ${payload.length} bytes`)
  return payload
}

/** Parts that each begin with a header, which has their length; between them they are aligned. */
function partsOf(bytes: Buffer, headerBytes: number, what: string, lengthAt: (at: number) => number): Buffer[] {
  const parts: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    const leftBytes = bytes.length - at
    if (leftBytes < headerBytes) throw new NetlinkFormatError(`${what} is cut off in its header`)
    const lengthBytes = lengthAt(at)
    if (lengthBytes < headerBytes || lengthBytes > leftBytes) {
      throw new NetlinkFormatError(`${what} of ${lengthBytes} bytes stands in ${leftBytes}`)
    }
    parts.push(bytes.subarray(at, at + lengthBytes))
    at += aligned(lengthBytes)
  }
  return parts
}

function aligned(lengthBytes: number): number {
  return Math.ceil(lengthBytes / alignBytes) * alignBytes
}
