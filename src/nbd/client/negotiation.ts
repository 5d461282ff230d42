// The client's side of newstyle negotiation. Always: nothing that a server sends is stored beyond a named bound, a
// reply to another option than the one that was sent ends the connection, and every wait ends with the socket's close.

import type { Socket } from 'node:net'
import {
  ClientFlag,
  HandshakeFlag,
  InfoType,
  nameOf,
  OptionType,
  payloadAdvertisedBytes,
  ReplyType,
  TransmissionFlag,
} from '../wire/constants.ts'
import { Gather } from '../wire/gather.ts'
import {
  decodeGreeting,
  decodeMetaContext,
  decodeOptionReplyHeader,
  decodeServerName,
  encodeClientFlags,
  encodeInfoRequest,
  encodeMetaContextRequest,
  encodeOption,
  greetingBytes,
  OptionError,
  optionReplyHeaderBytes,
  ProtocolError,
} from '../wire/negotiation-codecs.ts'
import { type ReplyStyle, replyStyles } from '../wire/reply-writers.ts'
import { NbdConnectionError, NbdRefusedError, NbdTooLargeError } from './errors.ts'

/** One option reply, and how many of them an option may bring. */
const replyMaxBytes = 64 * 1024
const repliesMax = 16_384
/** A size and flags; then zeroes, unless both sides have agreed to do without. */
const exportNameAnswerBytes = 8 + 2
const exportNameZeroesBytes = 124
/** Of a server that says nothing of block sizes. */
const usualBlockSize = { minimum: 1, preferred: 4096, maximum: payloadAdvertisedBytes }

export interface NbdExportInfo {
  /** As the server calls it; '' if it did not say. */
  readonly name: string
  readonly description: string
  readonly sizeBytes: number
  /** proto.md, "Transmission flags": the number, and what it says. */
  readonly flags: number
  readonly readOnly: boolean
  readonly canFlush: boolean
  readonly canFua: boolean
  readonly canTrim: boolean
  readonly canWriteZeroes: boolean
  readonly canFastZero: boolean
  readonly canCache: boolean
  readonly canMultiConn: boolean
  readonly blockSize: { readonly minimum: number; readonly preferred: number; readonly maximum: number }
}

interface OptionReply {
  readonly type: number
  readonly payload: Buffer
}

export class ClientNegotiation {
  readonly #socket: Socket
  #arrived: Buffer[] = []
  #wanted: { readonly gather: Gather; resolve(bytes: Buffer): void } | undefined
  #failure: Error | undefined
  #reject: ((error: Error) => void) | undefined
  readonly #onData = (chunk: Buffer): void => {
    this.#arrived.push(chunk)
    this.#serve()
  }
  readonly #onClose = (): void => this.fail(new NbdConnectionError(this.#hungUp))
  #hungUp = 'the server hung up during negotiation'
  /** A newstyle server that is not a fixed one knows EXPORT_NAME and nothing else. */
  #isFixed = false
  #isExtended = false
  #withZeroes = true

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', this.#onData)
    socket.once('close', this.#onClose)
  }

  /** Makes the wait under way, and any later one, fail. */
  fail(error: Error): void {
    this.#failure ??= error
    this.#reject?.(this.#failure)
  }

  async greet(): Promise<void> {
    const { flags } = decodeGreeting(await this.#read(greetingBytes))!
    this.#isFixed = (flags & HandshakeFlag.fixedNewstyle) !== 0
    this.#withZeroes = (flags & HandshakeFlag.noZeroes) === 0
    const fixed = this.#isFixed ? ClientFlag.fixedNewstyle : 0
    this.#socket.write(encodeClientFlags(fixed | (this.#withZeroes ? 0 : ClientFlag.noZeroes)))
  }

  /**
   * Has the server begin with TLS. What was agreed on before holds no more, and this negotiation is over: another goes on,
   * by continuedOver(), over the socket that TLS makes of this one. Throws NbdRefusedError.
   */
  async startTls(): Promise<void> {
    await this.#option(OptionType.startTls)
    // Whoever sits between could have put it there, for us to believe that it came through TLS (CVE-2021-3716).
    if (this.release().length > 0) throw new ProtocolError('bytes in the clear came behind the answer to STARTTLS')
  }

  /** The same negotiation, greeted already. */
  continuedOver(socket: Socket): ClientNegotiation {
    const continued = new ClientNegotiation(socket)
    continued.#isFixed = this.#isFixed
    continued.#withZeroes = this.#withZeroes
    return continued
  }

  async list(): Promise<string[]> {
    const replies = await this.#option(OptionType.list)
    return replies.filter(({ type }) => type === ReplyType.server).map(({ payload }) => decodeServerName(payload))
  }

  /** The best of the styles that are wanted and that the server knows. */
  async replyStyle(wanted: {
    readonly extendedHeaders?: boolean
    readonly structuredReplies?: boolean
  }): Promise<ReplyStyle> {
    if (wanted.extendedHeaders === true && (await this.#agreeOn(OptionType.extendedHeaders))) {
      this.#isExtended = true
      return replyStyles.extended
    }
    if (wanted.structuredReplies !== false && (await this.#agreeOn(OptionType.structuredReply))) {
      return replyStyles.structured
    }
    return replyStyles.simple
  }

  /** False if the server refuses, or knows no such options. */
  async #agreeOn(option: number): Promise<boolean> {
    if (!this.#isFixed) return false
    try {
      await this.#option(option)
      return true
    } catch (error) {
      if (error instanceof NbdRefusedError) return false
      throw error
    }
  }

  /** Ids by name, of those that the server has; with 'list' of all that match. */
  async metaContexts(
    purpose: 'list' | 'set',
    exportName: string,
    queries: readonly string[],
  ): Promise<ReadonlyMap<number, string>> {
    const type = purpose === 'set' ? OptionType.setMetaContext : OptionType.listMetaContext
    const replies = await this.#option(type, encodeMetaContextRequest({ exportName, queries }))
    const contexts = replies.filter((reply) => reply.type === ReplyType.metaContext)
    return new Map(contexts.map(({ payload }) => decodeMetaContext(payload)).map(({ id, name }) => [id, name]))
  }

  /** Ends the negotiation with GO, or, if the server has no GO, with EXPORT_NAME. Throws NbdRefusedError. */
  async open(exportName: string): Promise<NbdExportInfo> {
    if (!this.#isFixed) return this.#exportName(exportName)
    try {
      return await this.infoOrGo('go', exportName)
    } catch (error) {
      const hasNoGo = error instanceof NbdRefusedError && error.reply === 'ERR_UNSUP'
      // After extended headers a client must not send EXPORT_NAME.
      if (hasNoGo && !this.#isExtended) return this.#exportName(exportName)
      throw error
    }
  }

  /** INFO leaves the negotiation where it is; GO ends it. Throws NbdRefusedError. */
  async infoOrGo(option: 'info' | 'go', exportName: string): Promise<NbdExportInfo> {
    const infos = [InfoType.name, InfoType.description, InfoType.blockSize]
    const replies = await this.#option(OptionType[option], encodeInfoRequest({ exportName, infos }))
    return exportInfo(replies.filter(({ type }) => type === ReplyType.info).map(({ payload }) => payload))
  }

  /** Takes leave and hangs up without waiting for the answer, which says nothing. */
  abort(): void {
    this.#socket.write(encodeOption(OptionType.abort))
    this.#socket.destroySoon()
  }

  /** The negotiation is over: what arrived behind it belongs to the transmission phase. */
  release(): Buffer {
    if (this.#failure !== undefined) throw this.#failure
    this.#socket.off('data', this.#onData)
    this.#socket.off('close', this.#onClose)
    this.#socket.pause()
    return Buffer.concat(this.#arrived.splice(0))
  }

  /** proto.md, "Newstyle negotiation": the answer has no header, and a refusal is a hang-up. */
  async #exportName(exportName: string): Promise<NbdExportInfo> {
    this.#hungUp = 'the server hung up, which is how one without NBD_OPT_GO refuses an export'
    this.#socket.write(encodeOption(OptionType.exportName, Buffer.from(exportName)))
    const answer = await this.#read(exportNameAnswerBytes + (this.#withZeroes ? exportNameZeroesBytes : 0))
    const size = { sizeBytes: safeSize(answer.readBigUInt64BE(0)), flags: answer.readUInt16BE(8) }
    return { name: '', description: '', ...size, ...abilities(size.flags), blockSize: usualBlockSize }
  }

  async #option(option: number, payload?: Uint8Array): Promise<OptionReply[]> {
    if (!this.#isFixed) throw new NbdConnectionError('the server is no fixed newstyle one')
    this.#socket.write(encodeOption(option, payload))
    const replies: OptionReply[] = []
    while (replies.length < repliesMax) {
      const header = decodeOptionReplyHeader(await this.#read(optionReplyHeaderBytes))!
      if (header.option !== option)
        throw new ProtocolError(`the server answered option ${header.option}, not ${option}`)
      if (header.lengthBytes > replyMaxBytes) throw new ProtocolError(`an option reply has ${header.lengthBytes} bytes`)
      const reply = { type: header.type, payload: await this.#read(header.lengthBytes) }
      if (reply.type === ReplyType.ack) return replies
      if (reply.type >= ReplyType.errUnsup - 1) throw refusal(option, reply)
      replies.push(reply)
    }
    throw new ProtocolError(`the server gave over ${repliesMax} replies to one option`)
  }

  #read(lengthBytes: number): Promise<Buffer> {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    this.#wanted = { gather: new Gather(lengthBytes), resolve }
    this.#reject = reject
    this.#serve()
    return promise
  }

  #serve(): void {
    const wanted = this.#wanted
    while (wanted !== undefined && !wanted.gather.isComplete && this.#arrived.length > 0) {
      const chunk = this.#arrived[0]!
      const takenBytes = wanted.gather.push(chunk, 0)
      if (takenBytes === chunk.length) this.#arrived.shift()
      else this.#arrived[0] = chunk.subarray(takenBytes)
    }
    if (wanted?.gather.isComplete) {
      this.#wanted = undefined
      wanted.resolve(wanted.gather.bytes)
    }
    // A server that talks on unasked waits in the kernel's buffers, not in ours.
    if (this.#wanted === undefined && this.#arrived.length > 0) this.#socket.pause()
    else this.#socket.resume()
  }
}

function refusal(option: number, { type, payload }: OptionReply): NbdRefusedError {
  const reply = nameOf(ReplyType, type)
  const sentence = payload.toString('utf8', 0, 4096)
  const says = sentence === '' ? '' : `: ${sentence}`
  return new NbdRefusedError(`the server answered NBD_OPT_${nameOf(OptionType, option)} with ${reply}${says}`, reply)
}

function exportInfo(infos: readonly Buffer[]): NbdExportInfo {
  let size: { readonly sizeBytes: number; readonly flags: number } | undefined
  let name = ''
  let description = ''
  let blockSize = usualBlockSize
  for (const info of infos) {
    if (info.length < 2) throw new ProtocolError('an information reply is too short')
    const type = info.readUInt16BE(0)
    if (type === InfoType.name) name = info.toString('utf8', 2)
    if (type === InfoType.description) description = info.toString('utf8', 2)
    if (type === InfoType.export) {
      if (info.length !== 12) throw new ProtocolError('an export information has a broken length')
      size = { sizeBytes: safeSize(info.readBigUInt64BE(2)), flags: info.readUInt16BE(10) }
    }
    if (type === InfoType.blockSize) {
      if (info.length !== 14) throw new ProtocolError('a block size information has a broken length')
      blockSize = {
        minimum: Math.max(1, info.readUInt32BE(2)),
        preferred: Math.max(1, info.readUInt32BE(6)),
        maximum: Math.max(1, info.readUInt32BE(10)),
      }
    }
  }
  if (size === undefined) throw new ProtocolError('the server did not say how large the export is')
  return { name, description, ...size, ...abilities(size.flags), blockSize }
}

function abilities(flags: number) {
  const has = (flag: number): boolean => (flags & flag) !== 0
  return {
    readOnly: has(TransmissionFlag.readOnly),
    canFlush: has(TransmissionFlag.sendFlush),
    canFua: has(TransmissionFlag.sendFua),
    canTrim: has(TransmissionFlag.sendTrim),
    canWriteZeroes: has(TransmissionFlag.sendWriteZeroes),
    canFastZero: has(TransmissionFlag.sendFastZero),
    canCache: has(TransmissionFlag.sendCache),
    canMultiConn: has(TransmissionFlag.canMultiConn),
  }
}

function safeSize(size: bigint): number {
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw new NbdTooLargeError(size)
  return Number(size)
}

/** For callers: a server's broken name is the server's fault. */
export function asConnectionError(error: unknown): Error {
  if (error instanceof ProtocolError || error instanceof OptionError) {
    return new NbdConnectionError(`the server breaks the NBD protocol: ${error.message}`, { cause: error })
  }
  return error as Error
}
