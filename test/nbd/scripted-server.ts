// An NBD server that does what a test says: its sizes, flags and block sizes are told, and may change while it runs; each
// request is shown to the test, which may answer it, leave it, or hang up. Simple replies only, unless it is told otherwise.

import type { Socket } from 'node:net'
import { Command, OptionType, ReplyType, TransmissionFlag } from '../../src/nbd/wire/constants.ts'
import {
  encodeGreeting,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeOptionReply,
} from '../../src/nbd/wire/negotiation-codecs.ts'
import { writeSimpleReply } from '../../src/nbd/wire/reply-writers.ts'
import { decodeRequest, type Request } from '../../src/nbd/wire/transmission-codecs.ts'
import { type RawServer, rawServer } from './raw-server.ts'

export const manyFlags =
  TransmissionFlag.hasFlags |
  TransmissionFlag.sendFlush |
  TransmissionFlag.sendFua |
  TransmissionFlag.sendTrim |
  TransmissionFlag.sendWriteZeroes |
  TransmissionFlag.sendCache

/** What the server does with a request: sends these bytes, hangs up, or leaves it unanswered. */
export type Answer = Buffer | 'hang up' | 'leave'

export interface Script {
  sizeBytes: number
  flags: number
  /** Minimum, preferred and maximum; undefined: it says nothing of them. */
  blockSize: readonly [number, number, number] | undefined
  answer: (request: Request, connection: number) => Answer
}

export interface ScriptedServer extends RawServer {
  readonly script: Script
  /** Connections that it ever had. */
  readonly connections: number
  /** "read 0 512", in order. */
  readonly requests: readonly string[]
}

export async function scriptedServer(script: Partial<Script> = {}): Promise<ScriptedServer> {
  const requests: string[] = []
  const whole: Script = { sizeBytes: 1 << 20, flags: manyFlags, blockSize: undefined, answer: goodAnswer, ...script }
  let connections = 0
  const server = await rawServer((socket) => speak(socket, whole, ++connections, requests))
  return {
    ...server,
    script: whole,
    get connections() {
      return connections
    },
    requests,
  }
}

/** Success; a READ brings bytes that say where they come from. */
export function goodAnswer(request: Request): Buffer {
  const head = simpleReply(request, 0)
  if (request.type !== Command.read) return head
  return Buffer.concat([head, bytesAt(request.offset, request.lengthBytes)])
}

export function simpleReply(request: Request, errorNumber: number): Buffer {
  const bytes = Buffer.alloc(16)
  writeSimpleReply(bytes, 0, request, errorNumber)
  return bytes
}

/** What the server's export has at `offset`: the number of each 512-byte sector, over and over. */
export function bytesAt(offset: number, lengthBytes: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: lengthBytes }, (_, index) => Math.floor((offset + index) / 512) % 251))
}

function speak(socket: Socket, script: Script, connection: number, requests: string[]): void {
  let arrived = Buffer.alloc(0)
  let step: 'flags' | 'options' | 'requests' = 'flags'
  const take = (lengthBytes: number): Buffer => {
    const taken = arrived.subarray(0, lengthBytes)
    arrived = arrived.subarray(lengthBytes)
    return taken
  }
  const next = (): boolean => {
    if (step === 'flags') {
      if (arrived.length < 4) return false
      take(4)
      step = 'options'
      return true
    }
    if (step === 'options') {
      if (arrived.length < 16 || arrived.length < 16 + arrived.readUInt32BE(12)) return false
      const option = arrived.readUInt32BE(8)
      take(16 + arrived.readUInt32BE(12))
      socket.write(optionAnswer(option, script))
      if (option === OptionType.go) step = 'requests'
      return true
    }
    const request = decodeRequest(arrived, 0)
    const payloadBytes = request?.type === Command.write ? request.lengthBytes : 0
    if (request === undefined || arrived.length < 28 + payloadBytes) return false
    take(28 + payloadBytes)
    const name = Object.entries(Command).find(([, value]) => value === request.type)![0]
    requests.push(`${name} ${request.offset} ${request.lengthBytes}`)
    const answer = request.type === Command.disc ? 'hang up' : script.answer(request, connection)
    if (answer === 'hang up') socket.destroy()
    else if (answer !== 'leave') socket.write(answer)
    return true
  }
  socket.write(encodeGreeting())
  socket.on('data', (chunk) => {
    arrived = Buffer.concat([arrived, chunk])
    while (!socket.destroyed && next());
  })
}

function optionAnswer(option: number, { sizeBytes, flags, blockSize }: Script): Buffer {
  if (option !== OptionType.go) return encodeOptionReply(option, ReplyType.errUnsup)
  return Buffer.concat([
    encodeOptionReply(option, ReplyType.info, encodeInfoExport(sizeBytes, flags)),
    ...(blockSize ? [encodeOptionReply(option, ReplyType.info, encodeInfoBlockSize(...blockSize))] : []),
    encodeOptionReply(option, ReplyType.ack),
  ])
}
