// What a fuzzing client sends. A stream is a list of pieces (heads, payloads, options), made valid and then broken: bits
// flipped, fields set to values at a boundary, pieces doubled, dropped, swapped and cut, cookies repeated. seenRequests()
// reads the bytes that came out of it as a server has to, by code of its own, so that also the answers to a broken stream
// can be judged.

import { ClientFlag, Command, CommandFlag, InfoType, Magic, OptionType } from '../../src/nbd/wire/constants.ts'
import {
  encodeClientFlags,
  encodeInfoRequest,
  encodeMetaContextRequest,
  encodeOption,
} from '../../src/nbd/wire/negotiation-codecs.ts'
import type { Random } from '../random.ts'
import type { UnrulyExport } from './fuzz-export.ts'
import { extendedRequestBytesOf, requestBytesOf } from './harness.ts'

export type Style = 'simple' | 'structured' | 'extended'

export interface Opening {
  readonly style: Style
  readonly bytes: Buffer
  /** By EXPORT_NAME, whose answer has no header. */
  readonly isOldWay: boolean
  readonly hasZeroes: boolean
}

interface Piece {
  readonly kind: 'head' | 'payload' | 'option'
  bytes: Buffer
}

const requestsMax = 40
const boundaries = [0n, 1n, 0xffffn, 0x10000n, 0x7fffffffn, 0xffffffffn, 1n << 53n, (1n << 63n) - 1n, 1n << 63n, -1n]

/** A negotiation that opens `name`. */
export function validOpening(random: Random, name: string): Opening {
  const style = random.pick(['simple', 'structured', 'extended'] as const)
  const isOldWay = style !== 'extended' && random.chance(0.25)
  const hasZeroes = random.chance(0.3)
  const options: Buffer[] = []
  if (style === 'structured') options.push(encodeOption(OptionType.structuredReply))
  if (style === 'extended') options.push(encodeOption(OptionType.extendedHeaders))
  if (style !== 'simple') {
    const queries = random.pick([['base:allocation'], ['vmstore:dirty', 'base:allocation'], []])
    options.push(encodeOption(OptionType.setMetaContext, encodeMetaContextRequest({ exportName: name, queries })))
  }
  const infos = random.pick([[], [InfoType.blockSize], [InfoType.name, InfoType.description]])
  if (isOldWay) options.push(encodeOption(OptionType.exportName, Buffer.from(name)))
  else options.push(encodeOption(OptionType.go, encodeInfoRequest({ exportName: name, infos })))
  const flags = ClientFlag.fixedNewstyle | (hasZeroes ? 0 : ClientFlag.noZeroes)
  return { style, isOldWay, hasZeroes, bytes: Buffer.concat([encodeClientFlags(flags), ...options]) }
}

/** All kinds of options, then one that opens, then requests; broken. `hello`: what a TLS client says first. */
export function brokenNegotiation(random: Random, of: UnrulyExport, hello: Buffer): Buffer {
  const exportName = of.name
  const info = encodeInfoRequest({ exportName, infos: [InfoType.name, InfoType.blockSize, 77] })
  const contexts = encodeMetaContextRequest({ exportName, queries: ['base:', 'vmstore:dirty'] })
  const kinds = [
    () => encodeOption(OptionType.list),
    () => encodeOption(OptionType.info, info),
    () => encodeOption(OptionType.listMetaContext, contexts),
    () => encodeOption(OptionType.setMetaContext, contexts),
    () => encodeOption(OptionType.structuredReply),
    () => encodeOption(OptionType.extendedHeaders),
    () => encodeOption(OptionType.peekExport, Buffer.alloc(random.integer(70_000))),
    () => encodeOption(OptionType.abort),
    () => Buffer.concat([encodeOption(OptionType.startTls), hello]),
  ]
  const pieces: Piece[] = [{ kind: 'option', bytes: encodeClientFlags(ClientFlag.fixedNewstyle) }]
  for (let count = random.integer(12); count > 0; count--) pieces.push({ kind: 'option', bytes: random.pick(kinds)() })
  const opening = validOpening(random, exportName)
  pieces.push({ kind: 'option', bytes: opening.bytes.subarray(4) })
  mutate(random, pieces)
  // Reads only: nobody knows which export a broken name opens.
  const reads = Array.from({ length: 3 }, () =>
    bytesOf(opening.style, { type: Command.read, offset: 0, lengthBytes: 50_000 }),
  )
  return Buffer.concat([...pieces.map(({ bytes }) => bytes), ...reads])
}

/** Requests of all kinds; `breakage`: how often the stream is broken at all. */
export function transmission(random: Random, of: UnrulyExport, style: Style, breakage: number): Buffer {
  const pieces: Piece[] = []
  const count = 1 + random.integer(requestsMax)
  for (let cookie = 1; cookie <= count; cookie++) pieces.push(...requestPieces(random, of, style, cookie))
  if (random.chance(0.3)) pieces.push({ kind: 'head', bytes: bytesOf(style, { type: Command.disc }) })
  if (random.chance(breakage)) mutate(random, pieces)
  return Buffer.concat(pieces.map(({ bytes }) => bytes))
}

const bytesOf = (style: Style, request: Parameters<typeof requestBytesOf>[0]): Buffer =>
  style === 'extended' ? extendedRequestBytesOf(request) : requestBytesOf(request)

function requestPieces(random: Random, of: UnrulyExport, style: Style, cookie: number): Piece[] {
  const { read, write, flush, trim, cache, writeZeroes, blockStatus } = Command
  const type = random.pick([read, read, read, write, write, write, flush, trim, cache, writeZeroes, blockStatus])
  // Most are short; a long one has several pieces.
  const mostBytes = random.pick([1, 600, 5000, 5000, 70_000, random.chance(0.3) ? 700_000 : 4096])
  const isZeroing = type === trim || type === writeZeroes
  // One half is never zeroed by requests that arrive unbroken: there a lost write shows.
  const start = isZeroing ? Math.ceil(of.sizeBytes / 2) : 0
  const from = start + random.integer(of.sizeBytes - start)
  const offset = random.chance(0.5) ? from : Math.max(start, from - (from % 4096))
  // Now and then one that just passes the end.
  const isBeyond = random.chance(0.04)
  const lengthBytes = isBeyond
    ? of.sizeBytes - offset + 1
    : Math.min(1 + random.integer(mostBytes), of.sizeBytes - offset)
  const flags = flagsOf(random, type)
  if (type !== write) return [{ kind: 'head', bytes: bytesOf(style, { type, flags, cookie, offset, lengthBytes }) }]
  const payload = Buffer.alloc(lengthBytes)
  of.pattern.copy(payload, 0, offset, offset + lengthBytes)
  // As libnbd sends a write with extended headers, and as QEMU does.
  const writeFlags = flags | (style === 'extended' && random.chance(0.5) ? CommandFlag.payloadLen : 0)
  const head = bytesOf(style, { type, flags: writeFlags, cookie, offset, lengthBytes })
  return [
    { kind: 'head', bytes: head },
    { kind: 'payload', bytes: payload },
  ]
}

function flagsOf(random: Random, type: number): number {
  if (type === Command.read) return random.chance(0.2) ? CommandFlag.df : 0
  if (type === Command.blockStatus) return random.chance(0.3) ? CommandFlag.reqOne : 0
  if (type === Command.writeZeroes) return random.pick([0, CommandFlag.noHole, CommandFlag.fastZero])
  return type === Command.write && random.chance(0.3) ? CommandFlag.fua : 0
}

function mutate(random: Random, pieces: Piece[]): void {
  for (let count = 1 + random.integer(4); count > 0 && pieces.length > 0; count--) {
    const index = random.integer(pieces.length)
    random.pick(mutations)(random, pieces, index)
  }
}

const mutations: readonly ((random: Random, pieces: Piece[], index: number) => void)[] = [
  function flipBit(random, pieces, index) {
    const { bytes } = pieces[index]!
    if (bytes.length > 0) bytes[random.integer(Math.min(64, bytes.length))]! ^= 1 << random.integer(8)
  },
  /** Offsets and lengths of requests, lengths of options: a word at one of the places where these stand. */
  function setField(random, pieces, index) {
    const { bytes } = pieces[index]!
    const at = random.pick([4, 8, 12, 16, 20, 24, 28])
    if (at + 4 <= bytes.length) bytes.writeUInt32BE(Number(BigInt.asUintN(32, random.pick(boundaries))), at)
  },
  function setLongField(random, pieces, index) {
    const { bytes } = pieces[index]!
    const at = random.pick([8, 16, 24])
    if (at + 8 <= bytes.length) bytes.writeBigUInt64BE(BigInt.asUintN(64, random.pick(boundaries)), at)
  },
  function setType(random, pieces, index) {
    const { kind, bytes } = pieces[index]!
    if (kind === 'head' && bytes.length >= 8) bytes.writeUInt16BE(random.integer(10), 6)
  },
  function setFlags(random, pieces, index) {
    const { kind, bytes } = pieces[index]!
    if (kind === 'head' && bytes.length >= 8) bytes.writeUInt16BE(random.integer(128), 4)
  },
  function repeatCookie(random, pieces, index) {
    const { kind, bytes } = pieces[index]!
    const from = random.pick(pieces)
    const areWhole = Math.min(bytes.length, from.bytes.length) >= 16
    if (kind === 'head' && from.kind === 'head' && areWhole) from.bytes.copy(bytes, 8, 8, 16)
  },
  function double(_random, pieces, index) {
    const { kind, bytes } = pieces[index]!
    pieces.splice(index, 0, { kind, bytes: Buffer.from(bytes) })
  },
  function drop(_random, pieces, index) {
    pieces.splice(index, 1)
  },
  function swap(random, pieces, index) {
    const other = random.integer(pieces.length)
    const piece = pieces[index]!
    pieces[index] = pieces[other]!
    pieces[other] = piece
  },
  function cut(random, pieces, index) {
    const piece = pieces[index]!
    piece.bytes = piece.bytes.subarray(0, random.integer(piece.bytes.length + 1))
  },
  function insertGarbage(random, pieces, index) {
    const bytes = Buffer.from(Array.from({ length: 1 + random.integer(40) }, () => random.integer(256)))
    pieces.splice(index, 0, { kind: 'payload', bytes })
  },
]

/** A request as a server has to see it. */
export interface SeenRequest {
  readonly type: number
  readonly flags: number
  readonly cookie: bigint
  readonly offset: bigint
  readonly length: bigint
  /** Of a write: what came of it. */
  readonly payload: Buffer
  /** All of it arrived. */
  readonly isWhole: boolean
}

export interface SeenStream {
  readonly requests: readonly SeenRequest[]
  /** There is nothing that a server has to break the connection for, nor anything behind DISC. */
  readonly isSound: boolean
}

const payloadMost = 64n * 1024n * 1024n

/** The requests in `bytes`, up to DISC, to the end, or to what no server can read on behind (proto.md, "Request message"). */
export function seenRequests(bytes: Buffer, style: Style): SeenStream {
  const isExtended = style === 'extended'
  const headBytes = isExtended ? 32 : 28
  const magic = isExtended ? Magic.extendedRequest : Magic.request
  const requests: SeenRequest[] = []
  for (let at = 0; ; ) {
    if (at + 4 <= bytes.length && bytes.readUInt32BE(at) !== magic) return { requests, isSound: false }
    if (at + headBytes > bytes.length) return { requests, isSound: true }
    const flags = bytes.readUInt16BE(at + 4)
    const type = bytes.readUInt16BE(at + 6)
    // What comes behind it meets a connection that is being closed, and whoever sends it may lose the answers.
    if (type === Command.disc) return { requests, isSound: at + headBytes === bytes.length }
    const length = isExtended ? bytes.readBigUInt64BE(at + 24) : BigInt(bytes.readUInt32BE(at + 24))
    const hasPayload = type === Command.write || (isExtended && (flags & CommandFlag.payloadLen) !== 0)
    if (isExtended && hasPayload && length > payloadMost) return { requests, isSound: false }
    const from = at + headBytes
    const end = from + (hasPayload ? Number(length) : 0)
    const payload = bytes.subarray(from, Math.min(end, bytes.length))
    const [cookie, offset] = [bytes.readBigUInt64BE(at + 8), bytes.readBigUInt64BE(at + 16)]
    requests.push({ type, flags, cookie, offset, length, payload, isWhole: end <= bytes.length })
    at = end
  }
}

/** Tells the export what the requests may do to it that leaves something else than its pattern. */
export function announce(requests: readonly SeenRequest[], of: UnrulyExport): void {
  for (const { type, offset, length, payload } of requests) {
    if (offset + length > BigInt(of.sizeBytes)) continue
    const from = Number(offset)
    const end = Number(offset + length)
    if (type === Command.trim || type === Command.writeZeroes) of.mayBeZero.fill(1, from, end)
    const isTrue = of.pattern.compare(payload, 0, payload.length, from, from + payload.length) === 0
    if (type === Command.write && !isTrue) of.mayBeWrong.fill(1, from, end)
  }
}
