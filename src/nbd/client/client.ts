// An NBD client for one export over one connection. Requests are pipelined: each method sends at once and settles with its
// own reply, in whatever order replies come. It does not reconnect.
// Always: a request settles, by its reply, its signal, or the end of the connection; a server that sends nothing for
// `requestTimeoutMs` while requests wait, or that breaks the protocol, ends the connection.

import type { Socket } from 'node:net'
import { Command, CommandFlag, payloadMaxBytes } from '../wire/constants.ts'
import type { ReplyStyle } from '../wire/reply-writers.ts'
import { describe } from '../wire/request-rules.ts'
import {
  type ContextExtent,
  encodeExtendedRequest,
  encodeRequest,
  type Request,
  requestOf,
} from '../wire/transmission-codecs.ts'
import { parseNbdUri } from '../wire/uri.ts'
import { type NbdConnectOptions, withNegotiation, withNegotiationOver } from './connection.ts'
import { NbdConnectionError, NbdRefusedError } from './errors.ts'
import { asConnectionError, type ClientNegotiation, type NbdExportInfo } from './negotiation.ts'
import { type PendingRequest, ReplyParser } from './replies.ts'

export type { NbdConnectOptions } from './connection.ts'
export { NbdConnectionError, NbdRefusedError, NbdRequestError } from './errors.ts'
export type { NbdExportInfo } from './negotiation.ts'

export interface NbdRequestOptions {
  /** The caller stops waiting; the request itself cannot be called back. */
  readonly signal?: AbortSignal
}

export interface NbdWriteOptions extends NbdRequestOptions {
  readonly fua?: boolean
}

export interface NbdZeroOptions extends NbdWriteOptions {
  readonly noHole?: boolean
  readonly fastZero?: boolean
}

export class NbdClient {
  readonly #socket: Socket
  readonly #replies: ReplyParser
  readonly #requestTimeoutMs: number
  readonly #info: NbdExportInfo
  readonly #style: ReplyStyle
  readonly #closed = Promise.withResolvers<void>()
  /** Names of the metadata contexts that blockStatus() answers. */
  readonly contexts: readonly string[]
  #nextKey = 1
  #isLeaving = false
  #timer: NodeJS.Timeout | undefined
  #failure: Error | undefined

  private constructor(connection: Connection, info: NbdExportInfo, requestTimeoutMs: number) {
    const { socket, style, contexts } = connection
    this.#style = style
    this.#socket = socket
    this.#info = info
    this.#requestTimeoutMs = requestTimeoutMs
    this.#replies = new ReplyParser(style, contexts)
    this.contexts = [...contexts.values()]
    socket.on('error', (error) => this.#fail(new NbdConnectionError(error.message, { cause: error })))
    socket.on('close', () => {
      this.#fail(new NbdConnectionError('the server hung up'))
      this.#closed.resolve()
    })
    socket.on('data', (chunk: Buffer) => this.#received(chunk))
  }

  /** Opens the URI's export. Throws NbdUriError, NbdConnectionError, NbdRefusedError, or the signal's reason. */
  static async connect(uri: string, options: NbdConnectOptions = {}): Promise<NbdClient> {
    const parsed = parseNbdUri(uri)
    return withNegotiation(parsed, options, (socket, negotiation) =>
      NbdClient.#open(parsed.exportName, options, socket, negotiation),
    )
  }

  /** As connect(), over a connection that is there and was not read from; it is the client's, whatever comes of this. */
  static over(connected: Socket, exportName: string, options: NbdConnectOptions = {}): Promise<NbdClient> {
    return withNegotiationOver(connected, options, (socket, negotiation) =>
      NbdClient.#open(exportName, options, socket, negotiation),
    )
  }

  static async #open(
    exportName: string,
    options: NbdConnectOptions,
    socket: Socket,
    negotiation: ClientNegotiation,
  ): Promise<NbdClient> {
    const style = await negotiation.replyStyle(options)
    const wanted = options.metaContexts ?? []
    const contexts =
      style.hasChunks && wanted.length > 0
        ? await metaContextsIfKnown(negotiation, exportName, wanted)
        : new Map<number, string>()
    const info = await negotiation.open(exportName)
    const rest = negotiation.release()
    const client = new NbdClient({ socket, style, contexts }, info, options.requestTimeoutMs ?? 60_000)
    if (rest.length > 0) client.#received(rest)
    socket.resume()
    return client
  }

  /** What a server says of the URI's export, without opening it. */
  static info(uri: string, options: NbdConnectOptions = {}): Promise<NbdExportInfo & { readonly contexts: string[] }> {
    const parsed = parseNbdUri(uri)
    return withNegotiation(parsed, options, async (_socket, negotiation) => {
      const style = await negotiation.replyStyle(options)
      const info = await negotiation.infoOrGo('info', parsed.exportName)
      const contexts = style.hasChunks ? await negotiation.metaContexts('list', parsed.exportName, []) : new Map()
      negotiation.abort()
      return { ...info, contexts: [...contexts.values()] }
    })
  }

  /** The names that the server lists. */
  static list(uri: string, options: NbdConnectOptions = {}): Promise<string[]> {
    return withNegotiation(parseNbdUri(uri), options, async (_socket, negotiation) => {
      const names = await negotiation.list()
      negotiation.abort()
      return names
    })
  }

  info(): NbdExportInfo {
    return this.#info
  }

  /** Settles when the connection has ended, whatever the way. */
  get closed(): Promise<void> {
    return this.#closed.promise
  }

  async read(offset: number, lengthBytes: number, options: NbdRequestOptions = {}): Promise<Buffer> {
    if (lengthBytes > payloadMaxBytes) throw new RangeError(`a read has at most ${payloadMaxBytes} bytes`)
    const target = Buffer.alloc(lengthBytes)
    await this.#request(Command.read, 0, offset, lengthBytes, options, { target })
    return target
  }

  /** `source` must not change until this settles. */
  async write(offset: number, source: Uint8Array, options: NbdWriteOptions = {}): Promise<void> {
    if (source.length > payloadMaxBytes) throw new RangeError(`a write has at most ${payloadMaxBytes} bytes`)
    await this.#request(Command.write, fuaFlag(options), offset, source.length, options, { payload: source })
  }

  flush(options: NbdRequestOptions = {}): Promise<void> {
    return this.#request(Command.flush, 0, 0, 0, options)
  }

  trim(offset: number, lengthBytes: number, options: NbdWriteOptions = {}): Promise<void> {
    return this.#request(Command.trim, fuaFlag(options), offset, lengthBytes, options)
  }

  writeZeroes(offset: number, lengthBytes: number, options: NbdZeroOptions = {}): Promise<void> {
    const noHole = options.noHole ? CommandFlag.noHole : 0
    const fastZero = options.fastZero ? CommandFlag.fastZero : 0
    return this.#request(Command.writeZeroes, fuaFlag(options) | noHole | fastZero, offset, lengthBytes, options)
  }

  cache(offset: number, lengthBytes: number, options: NbdRequestOptions = {}): Promise<void> {
    return this.#request(Command.cache, 0, offset, lengthBytes, options)
  }

  /** Extents from `offset` on, by context name. A server may answer less than was asked. */
  async blockStatus(
    offset: number,
    lengthBytes: number,
    options: NbdRequestOptions = {},
  ): Promise<ReadonlyMap<string, readonly ContextExtent[]>> {
    const statuses = new Map<string, readonly ContextExtent[]>()
    await this.#request(Command.blockStatus, 0, offset, lengthBytes, options, { statuses })
    return statuses
  }

  /** Says DISC, takes the replies that are still owed, and resolves when the server has hung up. */
  async disconnect(): Promise<void> {
    if (this.#failure === undefined && !this.#isLeaving) {
      this.#isLeaving = true
      this.#socket.end(this.#encode(checkedRequest(this.#style, Command.disc, 0, 0, 0, 0)))
      this.#watch()
    }
    await this.#closed.promise
  }

  /** Breaks the connection off; requests under way fail. */
  destroy(error: Error = new NbdConnectionError('the client broke the connection off')): void {
    this.#fail(error)
  }

  #request(
    type: number,
    flags: number,
    offset: number,
    lengthBytes: number,
    { signal }: NbdRequestOptions,
    more: {
      readonly payload?: Uint8Array
      readonly target?: Buffer
      readonly statuses?: Map<string, readonly ContextExtent[]>
    } = {},
  ): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    if (this.#isLeaving) return Promise.reject(new NbdConnectionError('the client has said DISC'))
    if (signal?.aborted) return Promise.reject(signal.reason)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const key = this.#takeKey()
    const request = checkedRequest(this.#style, type, flags, key, offset, lengthBytes)
    const aborted = (): void => reject(signal?.reason)
    const settle = (act: () => void): void => {
      signal?.removeEventListener('abort', aborted)
      act()
    }
    signal?.addEventListener('abort', aborted, { once: true })
    const pending: PendingRequest = {
      text: describe(request),
      offset,
      lengthBytes,
      target: more.target,
      statuses: more.statuses,
      filledBytes: 0,
      errors: 0,
      error: undefined,
      resolve: () => settle(resolve),
      reject: (error) => settle(() => reject(error)),
    }
    this.#replies.pending.set(key, pending)
    if (more.payload === undefined) {
      this.#socket.write(this.#encode(request))
    } else {
      this.#socket.cork()
      this.#socket.write(this.#encode(request))
      this.#socket.write(more.payload)
      this.#socket.uncork()
    }
    if (this.#timer === undefined) this.#watch()
    return promise
  }

  #encode(request: Request): Buffer {
    return this.#style.isExtended ? encodeExtendedRequest(request) : encodeRequest(request)
  }

  /** A cookie's lower half, free among the requests under way. */
  #takeKey(): number {
    while (this.#replies.pending.has(this.#nextKey)) this.#nextKey = (this.#nextKey + 1) >>> 0
    const key = this.#nextKey
    this.#nextKey = (key + 1) >>> 0
    return key
  }

  #received(chunk: Buffer): void {
    if (this.#failure !== undefined) return
    try {
      this.#replies.push(chunk)
    } catch (error) {
      this.#fail(asConnectionError(error))
      return
    }
    if (this.#replies.pending.size > 0 || this.#isLeaving) this.#timer?.refresh()
    else this.#unwatch()
  }

  #watch(): void {
    this.#unwatch()
    const silence = `the server was silent for ${this.#requestTimeoutMs} ms`
    this.#timer = setTimeout(() => this.#fail(new NbdConnectionError(silence)), this.#requestTimeoutMs)
  }

  #unwatch(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #fail(error: Error): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#unwatch()
    this.#socket.destroy()
    const pending = [...this.#replies.pending.values()]
    this.#replies.pending.clear()
    for (const request of pending) request.reject(error)
  }
}

interface Connection {
  readonly socket: Socket
  readonly style: ReplyStyle
  readonly contexts: ReadonlyMap<number, string>
}

function fuaFlag(options: NbdWriteOptions): number {
  return options.fua ? CommandFlag.fua : 0
}

/** Throws RangeError for what does not fit on the wire. */
function checkedRequest(
  style: ReplyStyle,
  type: number,
  flags: number,
  key: number,
  offset: number,
  lengthBytes: number,
): Request {
  if (!Number.isSafeInteger(offset) || offset < 0) throw new RangeError(`${offset} is no offset`)
  const limit = style.isExtended ? Number.MAX_SAFE_INTEGER : 2 ** 32 - 1
  if (!Number.isInteger(lengthBytes) || lengthBytes < 0 || lengthBytes > limit) {
    throw new RangeError(`${lengthBytes} is no length of a request`)
  }
  const payloadLen = style.isExtended && type === Command.write ? CommandFlag.payloadLen : 0
  return requestOf(type, flags | payloadLen, key, offset, lengthBytes)
}

/** A server without metadata contexts is served without. */
async function metaContextsIfKnown(
  negotiation: ClientNegotiation,
  exportName: string,
  wanted: readonly string[],
): Promise<ReadonlyMap<number, string>> {
  try {
    return await negotiation.metaContexts('set', exportName, wanted)
  } catch (error) {
    if (error instanceof NbdRefusedError && error.reply === 'ERR_UNSUP') return new Map()
    throw error
  }
}
