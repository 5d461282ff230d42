// The server's side of fixed newstyle negotiation (proto.md, "Handshake phase"). A state machine without socket or clock:
// bytes go in by push(), what to do comes out of next(), one step for each option, its whole answer in one piece of bytes.
// Always: an option's payload is consumed before it is answered; nothing is allocated by an announced length above the
// limit; only GO and EXPORT_NAME open an export, and both end the negotiation.

import assert from 'node:assert/strict'
import type { Export, ExportCatalog, ExportHandle } from '../../guest/export.ts'
import {
  blockSizeMinimumBytes,
  blockSizePreferredBytes,
  ClientFlag,
  InfoType,
  OptionType,
  payloadAdvertisedBytes,
  ReplyType,
  stringMaxBytes,
  TransmissionFlag,
} from '../wire/constants.ts'
import { Gather } from '../wire/gather.ts'
import {
  clientFlagsBytes,
  decodeClientFlags,
  decodeInfoRequest,
  decodeMetaContextRequest,
  decodeName,
  decodeOptionHeader,
  encodeExportNameReply,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeInfoText,
  encodeMetaContext,
  encodeOptionReply,
  encodeServerName,
  OptionError,
  type OptionHeader,
  optionHeaderBytes,
  ProtocolError,
} from '../wire/negotiation-codecs.ts'
import { type ReplyStyle, replyStyles, truncateText } from '../wire/reply-writers.ts'
import { toldCodeOf } from './guest-errors.ts'
import { type MetaContext, matchContexts } from './meta-contexts.ts'
import type { TlsMode } from './tls-mode.ts'

/** What negotiation settled for the transmission phase. */
export interface Agreement {
  readonly export: Export
  readonly handle: ExportHandle
  readonly style: ReplyStyle
  readonly contexts: readonly MetaContext[]
}

export type NegotiationStep =
  | { readonly kind: 'reply'; readonly bytes: Buffer }
  /** Send the bytes, do the TLS handshake, then call secured(). `discardedBytes` came behind the option, in the clear. */
  | { readonly kind: 'startTls'; readonly bytes: Buffer; readonly discardedBytes: number }
  /** Send the bytes, then hang up. */
  | { readonly kind: 'hangUp'; readonly bytes?: Buffer; readonly reason: string }
  /** Send the bytes; `rest` already belongs to the transmission phase. */
  | { readonly kind: 'transmit'; readonly bytes: Buffer; readonly rest: Buffer; readonly agreement: Agreement }

export interface NegotiationTerms {
  readonly catalog: ExportCatalog
  readonly tls: TlsMode
  /** Options, on top of one for each export. */
  readonly optionLimit: number
  readonly optionLimitBytes: number
  /** Opens for this client. What may be told to clients (guest-errors.ts) is an answer; anything else ends the connection. */
  open(wanted: Export): ExportHandle
}

export function transmissionFlags(wanted: Export, style: ReplyStyle): number {
  const flags = TransmissionFlag.hasFlags | TransmissionFlag.sendFlush | TransmissionFlag.sendFua
  const writing = wanted.readOnly
    ? TransmissionFlag.readOnly
    : TransmissionFlag.sendTrim | TransmissionFlag.sendWriteZeroes | TransmissionFlag.sendFastZero
  // "MUST leave this flag clear if neither structured replies nor extended headers have been negotiated."
  const fragments = style.hasChunks ? TransmissionFlag.sendDf : 0
  return flags | writing | fragments | TransmissionFlag.canMultiConn | TransmissionFlag.sendCache
}

export class Negotiation {
  readonly #terms: NegotiationTerms
  #state: 'clientFlags' | 'optionHeader' | 'optionPayload' | 'skip' | 'tlsHandshake' | 'over' = 'clientFlags'
  #gather = new Gather(clientFlagsBytes)
  #option: OptionHeader = { type: 0, lengthBytes: 0 }
  #skipBytes = 0
  #optionCount = 0
  #chunk: Buffer = Buffer.alloc(0)
  #at = 0
  #withZeroes = true
  #style: ReplyStyle = replyStyles.simple
  #isSecured = false
  /** Tied to one export name (proto.md, NBD_OPT_SET_META_CONTEXT). */
  #selected: { readonly exportName: string; readonly contexts: readonly MetaContext[] } | undefined

  constructor(terms: NegotiationTerms) {
    this.#terms = terms
  }

  /**
   * The TLS handshake is done: what comes from here on came through it. Nothing that was asked for in the clear holds any
   * more (proto.md, NBD_OPT_STARTTLS): somebody between might have asked for it.
   */
  secured(): void {
    assert(this.#state === 'tlsHandshake')
    this.#isSecured = true
    this.#style = replyStyles.simple
    this.#selected = undefined
    this.#expect('optionHeader', optionHeaderBytes)
  }

  /** Hands over what arrived; next() must have returned undefined since the last push. Throws ProtocolError: hang up. */
  push(chunk: Buffer): void {
    assert(this.#at === this.#chunk.length)
    if (this.#state === 'tlsHandshake') throw new ProtocolError('bytes in the clear came instead of a TLS handshake')
    this.#chunk = chunk
    this.#at = 0
  }

  /** The next thing to do, or undefined until more arrives. Throws ProtocolError: hang up. */
  next(): NegotiationStep | undefined {
    while (this.#state !== 'over' && this.#state !== 'tlsHandshake') {
      if (this.#state === 'skip') {
        const skipped = Math.min(this.#skipBytes, this.#chunk.length - this.#at)
        this.#skipBytes -= skipped
        this.#at += skipped
        if (this.#skipBytes > 0) return undefined
        this.#expect('optionHeader', optionHeaderBytes)
        if (this.#isLocked) return this.#demandTls()
        return this.#refuse(ReplyType.errTooBig, `an option has at most ${this.#terms.optionLimitBytes} bytes`)
      }
      this.#at += this.#gather.push(this.#chunk, this.#at)
      if (!this.#gather.isComplete) return undefined
      const step = this.#received(this.#gather.bytes)
      if (step !== undefined) return step
    }
    return undefined
  }

  #expect(state: 'optionHeader' | 'optionPayload', lengthBytes: number): void {
    this.#state = state
    this.#gather = new Gather(lengthBytes)
  }

  #received(bytes: Buffer): NegotiationStep | undefined {
    if (this.#state === 'clientFlags') {
      const flags = decodeClientFlags(bytes)!
      if ((flags & ~(ClientFlag.fixedNewstyle | ClientFlag.noZeroes)) !== 0) {
        throw new ProtocolError(`the client sent flags ${flags} that nobody offered`)
      }
      this.#withZeroes = (flags & ClientFlag.noZeroes) === 0
      this.#expect('optionHeader', optionHeaderBytes)
      return undefined
    }
    if (this.#state === 'optionHeader') {
      this.#option = decodeOptionHeader(bytes)!
      this.#optionCount++
      // Clients ask about each export. In the clear, how many there are is nobody's business.
      const exportCount = this.#isLocked ? 0 : this.#terms.catalog.list().length
      if (this.#optionCount > this.#terms.optionLimit + exportCount) {
        throw new ProtocolError(`the client sent ${this.#optionCount} options and chose no export`)
      }
      if (this.#option.lengthBytes <= this.#terms.optionLimitBytes) {
        this.#expect('optionPayload', this.#option.lengthBytes)
        return undefined
      }
      if (this.#option.type === OptionType.exportName) throw new ProtocolError('an export name is too long')
      this.#state = 'skip'
      this.#skipBytes = this.#option.lengthBytes
      return undefined
    }
    this.#expect('optionHeader', optionHeaderBytes)
    try {
      return this.#answer(bytes)
    } catch (error) {
      if (!(error instanceof OptionError)) throw error
      // "If an error occurs, the server has no way to say so": EXPORT_NAME can only be hung up on.
      if (this.#option.type === OptionType.exportName) throw new ProtocolError(error.message, { cause: error })
      return this.#refuse(error.tooBig ? ReplyType.errTooBig : ReplyType.errInvalid, error.message)
    }
  }

  #answer(payload: Buffer): NegotiationStep {
    const { catalog } = this.#terms
    const { type } = this.#option
    if (this.#isLocked && type !== OptionType.startTls && type !== OptionType.abort) return this.#demandTls()
    switch (type) {
      case OptionType.exportName:
        return this.#exportName(decodeName(payload))
      case OptionType.abort:
        this.#state = 'over'
        return { kind: 'hangUp', bytes: this.#reply(ReplyType.ack), reason: 'the client sent NBD_OPT_ABORT' }
      case OptionType.list: {
        mustBeEmpty(payload)
        const names = catalog.list().map((name) => this.#reply(ReplyType.server, encodeServerName(name)))
        return { kind: 'reply', bytes: Buffer.concat([...names, this.#reply(ReplyType.ack)]) }
      }
      case OptionType.info:
      case OptionType.go:
        return this.#infoOrGo(payload)
      case OptionType.structuredReply:
        mustBeEmpty(payload)
        if (this.#style.isExtended) {
          return this.#refuse(ReplyType.errExtHeaderReqd, 'extended headers were agreed on, and take precedence')
        }
        return this.#agreeOn(replyStyles.structured)
      case OptionType.extendedHeaders:
        mustBeEmpty(payload)
        return this.#agreeOn(replyStyles.extended)
      case OptionType.listMetaContext:
      case OptionType.setMetaContext:
        return this.#metaContexts(payload)
      case OptionType.startTls:
        return this.#terms.tls === 'off' ? this.#unknownOption() : this.#startTls(payload)
      default:
        return this.#unknownOption()
    }
  }

  /** A disabled option too is an unknown one. */
  #unknownOption(): NegotiationStep {
    return this.#refuse(ReplyType.errUnsup, 'this server does not know that option')
  }

  /** TLS is demanded and not there: the client may begin it, or leave. */
  get #isLocked(): boolean {
    return this.#terms.tls === 'require' && !this.#isSecured
  }

  #demandTls(): NegotiationStep {
    if (this.#option.type === OptionType.exportName) throw new ProtocolError('the client chose an export without TLS')
    return this.#refuse(ReplyType.errTlsReqd, 'this server demands TLS')
  }

  #startTls(payload: Buffer): NegotiationStep {
    mustBeEmpty(payload)
    if (this.#isSecured) throw new OptionError('TLS is in use already')
    this.#state = 'tlsHandshake'
    // Whoever sits between could have put it there, for us to believe that it came through TLS (CVE-2021-3716).
    const discardedBytes = this.#chunk.length - this.#at
    this.#at = this.#chunk.length
    return { kind: 'startTls', bytes: this.#reply(ReplyType.ack), discardedBytes }
  }

  #agreeOn(style: ReplyStyle): NegotiationStep {
    this.#style = style
    return { kind: 'reply', bytes: this.#reply(ReplyType.ack) }
  }

  #exportName(name: string): NegotiationStep {
    if (this.#style.isExtended) throw new ProtocolError('EXPORT_NAME does not go with extended headers')
    const wanted = this.#terms.catalog.find(name)
    if (wanted === undefined) throw new ProtocolError(`there is no export ${JSON.stringify(name)}`)
    const handle = this.#terms.open(wanted)
    const flags = transmissionFlags(wanted, this.#style)
    return this.#transmit(name, wanted, handle, encodeExportNameReply(wanted.sizeBytes, flags, this.#withZeroes))
  }

  #infoOrGo(payload: Buffer): NegotiationStep {
    const { exportName, infos } = decodeInfoRequest(payload)
    const wanted = this.#terms.catalog.find(exportName)
    if (wanted === undefined) return this.#refuse(ReplyType.errUnknown, 'there is no such export')
    const flags = transmissionFlags(wanted, this.#style)
    const replies = [
      encodeInfoExport(wanted.sizeBytes, flags),
      encodeInfoBlockSize(blockSizeMinimumBytes, blockSizePreferredBytes, payloadAdvertisedBytes),
    ]
    if (infos.includes(InfoType.name)) replies.push(encodeInfoText(InfoType.name, wanted.name))
    if (infos.includes(InfoType.description)) {
      const text = truncateText(wanted.description, stringMaxBytes).toString()
      replies.push(encodeInfoText(InfoType.description, text))
    }
    const bytes = Buffer.concat([
      ...replies.map((reply) => this.#reply(ReplyType.info, reply)),
      this.#reply(ReplyType.ack),
    ])
    if (this.#option.type === OptionType.info) return { kind: 'reply', bytes }
    try {
      return this.#transmit(exportName, wanted, this.#terms.open(wanted), bytes)
    } catch (error) {
      const code = toldCodeOf(error)
      if (code === undefined) throw error
      return this.#refuse(code === 'ESHUTDOWN' ? ReplyType.errShutdown : ReplyType.errPolicy, (error as Error).message)
    }
  }

  #transmit(name: string, wanted: Export, handle: ExportHandle, bytes: Buffer): NegotiationStep {
    this.#state = 'over'
    const rest = this.#chunk.subarray(this.#at)
    this.#at = this.#chunk.length
    const contexts = this.#selected?.exportName === name ? this.#selected.contexts : []
    const agreement = { export: wanted, handle, style: this.#style, contexts }
    return { kind: 'transmit', bytes, rest, agreement }
  }

  #metaContexts(payload: Buffer): NegotiationStep {
    const setting = this.#option.type === OptionType.setMetaContext
    if (setting) this.#selected = undefined
    if (!this.#style.hasChunks) throw new OptionError('metadata contexts need structured replies or extended headers')
    const { exportName, queries } = decodeMetaContextRequest(payload)
    const wanted = this.#terms.catalog.find(exportName)
    if (wanted === undefined) return this.#refuse(ReplyType.errUnknown, 'there is no such export')
    const contexts = matchContexts(wanted.statuses, queries, setting ? 'set' : 'list')
    if (setting) this.#selected = { exportName, contexts }
    const replies = contexts.map(({ id, name }) => this.#reply(ReplyType.metaContext, encodeMetaContext(id, name)))
    return { kind: 'reply', bytes: Buffer.concat([...replies, this.#reply(ReplyType.ack)]) }
  }

  #reply(type: number, payload?: Uint8Array): Buffer {
    return encodeOptionReply(this.#option.type, type, payload)
  }

  #refuse(type: number, sentence: string): NegotiationStep {
    return { kind: 'reply', bytes: this.#reply(type, truncateText(sentence, stringMaxBytes)) }
  }
}

function mustBeEmpty(payload: Buffer): void {
  if (payload.length > 0) throw new OptionError('that option carries nothing')
}
