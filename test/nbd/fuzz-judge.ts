// Judges what a fuzzing client got, against what it sent: every reply is well-formed and answers a request that was made,
// none is answered twice, none beyond the export succeeds, what was read is what lies there, what was written with success
// is there, and, if the connection ended well, no request went without its answer.

import { ChunkFlag, ChunkType, Command, Magic, OptionType, ReplyType } from '../../src/nbd/wire/constants.ts'
import type { Found, UnrulyExport } from './fuzz-export.ts'
import type { Opening, SeenRequest } from './fuzz-stream.ts'

export interface Case {
  readonly opening: Opening
  readonly of: UnrulyExport
  readonly requests: readonly SeenRequest[]
  readonly received: Buffer
  /** All was sent, could be understood, and was waited for. */
  readonly endedWell: boolean
  readonly found: Found
}

const greetingBytes = 18
const zeroesBytes = 124

/** Where the transmission begins in what was received, or undefined: it did not come to that. */
function transmissionStart({ opening, received, found }: Case): number | undefined {
  if (received.length < greetingBytes) return undefined
  for (let at = greetingBytes; at + 8 <= received.length; ) {
    if (received.readBigUInt64BE(at) !== Magic.optionReply) {
      if (opening.isOldWay) return at + 10 + (opening.hasZeroes ? zeroesBytes : 0)
      found('an option reply does not begin with its magic')
      return undefined
    }
    if (at + 20 > received.length) return undefined
    const option = received.readUInt32BE(at + 8)
    const type = received.readUInt32BE(at + 12)
    at += 20 + received.readUInt32BE(at + 16)
    if (option === OptionType.go && type !== ReplyType.info) return type === ReplyType.ack ? at : undefined
  }
  return undefined
}

interface Chunk {
  readonly cookie: bigint
  readonly type: number
  readonly isDone: boolean
  readonly payload: Buffer
  readonly end: number
}

export function judge(of: Case): void {
  const start = transmissionStart(of)
  if (start === undefined || start > of.received.length) return
  const open = openRequests(of.requests)
  let at: number | undefined = start
  while (at !== undefined && at < of.received.length) {
    at = of.opening.style === 'simple' ? judgeSimple(of, open, at) : judgeChunk(of, open, at)
  }
  if (at === undefined || !of.endedWell) return
  for (const left of open.values()) {
    for (const { request } of left) {
      if (request.isWhole) of.found(`no answer to command ${request.type} at ${request.offset} of ${request.length}`)
    }
  }
}

interface Open {
  readonly request: SeenRequest
  /** Bytes of a read that have come. */
  coveredBytes: number
}

function openRequests(requests: readonly SeenRequest[]): Map<bigint, Open[]> {
  const open = new Map<bigint, Open[]>()
  for (const request of requests) {
    const same = open.get(request.cookie) ?? []
    open.set(request.cookie, [...same, { request, coveredBytes: 0 }])
  }
  return open
}

/** The one that a reply is for. Undefined: there is none, or with a cookie that repeats nobody can say. */
function askedFor(of: Case, open: Map<bigint, Open[]>, cookie: bigint): Open | undefined {
  const asked = open.get(cookie)
  if (asked === undefined || asked.length === 0) of.found(`a reply to cookie ${cookie}, which nothing waits for`)
  return asked?.length === 1 && of.requests.filter((one) => one.cookie === cookie).length === 1 ? asked[0] : undefined
}

/** Where the next reply begins; undefined: it cannot be known. */
function judgeSimple(of: Case, open: Map<bigint, Open[]>, at: number): number | undefined {
  const { received, found } = of
  if (at + 16 > received.length) return undefined
  if (received.readUInt32BE(at) !== Magic.simpleReply) {
    found('a simple reply does not begin with its magic')
    return undefined
  }
  const asked = askedFor(of, open, received.readBigUInt64BE(at + 8))
  if (asked === undefined) return undefined
  open.delete(asked.request.cookie)
  const from = at + 16
  if (received.readUInt32BE(at + 4) !== 0) return from
  succeeded(of, asked.request)
  if (asked.request.type !== Command.read) return from
  const end = from + Number(asked.request.length)
  judgeBytes(of, asked.request.offset, received.subarray(from, end))
  return end <= received.length ? end : undefined
}

function judgeChunk(of: Case, open: Map<bigint, Open[]>, at: number): number | undefined {
  const chunk = chunkAt(of, at)
  if (chunk === undefined) return undefined
  const asked = askedFor(of, open, chunk.cookie)
  if (asked === undefined) {
    // Its chunks can be read; only to whom they belong is open.
    if (!open.has(chunk.cookie)) return undefined
    if (chunk.isDone) answerOne(open.get(chunk.cookie)!)
    return chunk.end
  }
  const { request } = asked
  if (chunk.type === ChunkType.offsetData) {
    judgeBytes(of, chunk.payload.readBigUInt64BE(0), chunk.payload.subarray(8))
    asked.coveredBytes += chunk.payload.length - 8
  } else if (chunk.type === ChunkType.offsetHole) {
    const lengthBytes = chunk.payload.readUInt32BE(8)
    judgeBytes(of, chunk.payload.readBigUInt64BE(0), Buffer.alloc(lengthBytes))
    asked.coveredBytes += lengthBytes
  }
  if (!chunk.isDone) return chunk.end
  open.delete(chunk.cookie)
  if (chunk.type === ChunkType.error) return chunk.end
  succeeded(of, request)
  if (request.type === Command.read && asked.coveredBytes !== Number(request.length)) {
    of.found(`a read of ${request.length} bytes was answered with ${asked.coveredBytes}`)
  }
  return chunk.end
}

/** Of several with one cookie: only what arrived whole is answered. */
function answerOne(same: Open[]): void {
  const index = same.findIndex(({ request }) => request.isWhole)
  same.splice(Math.max(0, index), 1)
}

/** The chunk at `at`, or a simple reply, which may stand for one without payload. */
function chunkAt({ opening, received, found }: Case, at: number): Chunk | undefined {
  const isExtended = opening.style === 'extended'
  if (at + 16 > received.length) return undefined
  const magic = received.readUInt32BE(at)
  const cookie = received.readBigUInt64BE(at + 8)
  if (!isExtended && magic === Magic.simpleReply) {
    const isError = received.readUInt32BE(at + 4) !== 0
    const type = isError ? ChunkType.error : ChunkType.none
    return { cookie, type, isDone: true, payload: Buffer.alloc(0), end: at + 16 }
  }
  if (magic !== (isExtended ? Magic.extendedReply : Magic.structuredReply)) {
    found('a chunk does not begin with its magic')
    return undefined
  }
  const from = at + (isExtended ? 32 : 20)
  if (from > received.length) return undefined
  const length = isExtended ? Number(received.readBigUInt64BE(at + 24)) : received.readUInt32BE(at + 16)
  if (from + length > received.length) return undefined
  const isDone = (received.readUInt16BE(at + 4) & ChunkFlag.done) !== 0
  const payload = received.subarray(from, from + length)
  return { cookie, type: received.readUInt16BE(at + 6), isDone, payload, end: from + length }
}

function judgeBytes({ of, found }: Case, offset: bigint, bytes: Buffer): void {
  if (offset + BigInt(bytes.length) > BigInt(of.sizeBytes)) found(`${bytes.length} bytes at ${offset} do not exist`)
  else if (!of.accepts(Number(offset), bytes, false)) found(`a read at ${offset} told what does not lie there`)
}

function succeeded({ of, found }: Case, { type, offset, length }: SeenRequest): void {
  if (type === Command.flush) return
  if (offset + length > BigInt(of.sizeBytes)) {
    found(`command ${type} at ${offset} of ${length} succeeded beyond the export's end`)
    return
  }
  if (type !== Command.write) return
  const there = of.bytes.subarray(Number(offset), Number(offset + length))
  if (!of.accepts(Number(offset), there, true)) found(`a write of ${length} at ${offset} succeeded and is not there`)
}
