// What the NBD tests share: a server on a Unix socket in a folder of its own, and a client that speaks raw bytes and waits
// for events, never for time.

import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls'
import type { Export } from '../../src/guest/export.ts'
import type { ServerLog } from '../../src/guest/log.ts'
import type { NbdLimits } from '../../src/nbd/server/limits.ts'
import { NbdServer, type NbdServerOptions } from '../../src/nbd/server/server.ts'
import {
  ChunkFlag,
  ChunkType,
  ClientFlag,
  Command,
  CommandFlag,
  InfoType,
  OptionType,
  ReplyType,
} from '../../src/nbd/wire/constants.ts'
import {
  decodeOptionReplyHeader,
  encodeClientFlags,
  encodeInfoRequest,
  encodeMetaContextRequest,
  encodeOption,
  optionReplyHeaderBytes,
} from '../../src/nbd/wire/negotiation-codecs.ts'
import {
  type ChunkHeader,
  decodeExtendedReplyHeader,
  decodeReplyHeader,
  type ExtendedChunkHeader,
  encodeExtendedRequest,
  encodeRequest,
  type SimpleReply,
} from '../../src/nbd/wire/transmission-codecs.ts'
import { catalogOf } from './memory-export.ts'

export interface LogLine {
  readonly level: string
  readonly facts: object
  readonly message: string
}

export interface TestServer extends AsyncDisposable {
  readonly server: NbdServer
  readonly folder: string
  readonly path: string
  readonly uri: string
  readonly log: LogLine[]
}

export function recordingLog(lines: LogLine[]): ServerLog {
  const at = (level: string) => (facts: object, message: string) => {
    lines.push({ level, facts, message })
  }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

export function temporaryFolder(): { readonly path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), 'vmstore-nbd-'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) }
}

export async function serve(
  exports: readonly Export[],
  limits: Partial<NbdLimits> = {},
  { scheme = 'nbd+unix', ...more }: Pick<NbdServerOptions, 'tls'> & { scheme?: 'nbd+unix' | 'nbds+unix' } = {},
): Promise<TestServer> {
  const folder = temporaryFolder()
  const log: LogLine[] = []
  const server = new NbdServer({ catalog: catalogOf(...exports), log: recordingLog(log), limits, ...more })
  const path = join(folder.path, 'nbd.sock')
  const { uri } = await server.listen(`${scheme}:///?socket=${path}`)
  return {
    server,
    folder: folder.path,
    path,
    uri,
    log,
    async [Symbol.asyncDispose]() {
      await server.stop({ drain: false })
      folder[Symbol.dispose]()
    },
  }
}

/** The server's URI for an export. */
export function uriOf({ path }: TestServer, exportName: string): string {
  return `nbd+unix:///${exportName}?socket=${path}`
}

export interface RawRequest {
  readonly type: number
  readonly flags?: number
  readonly cookie?: number
  readonly offset?: number | bigint
  readonly lengthBytes?: number | bigint
  readonly payload?: Uint8Array
}

export function requestBytesOf(request: RawRequest): Buffer {
  return Buffer.concat([encodeRequest(asRequest(request)), request.payload ?? Buffer.alloc(0)])
}

/** With PAYLOAD_LEN if there is a payload, unless the request's own flags say something else. */
export function extendedRequestBytesOf(request: RawRequest): Buffer {
  const flags = request.flags ?? (request.payload === undefined ? 0 : CommandFlag.payloadLen)
  return Buffer.concat([encodeExtendedRequest(asRequest({ ...request, flags })), request.payload ?? Buffer.alloc(0)])
}

function asRequest(request: RawRequest): Parameters<typeof encodeRequest>[0] {
  const offset = BigInt(request.offset ?? 0)
  const length = BigInt(request.lengthBytes ?? request.payload?.length ?? 0)
  return {
    type: request.type,
    flags: request.flags ?? 0,
    cookieHigh: 0,
    cookieLow: request.cookie ?? 1,
    offset: Number(offset),
    offsetHigh: Number(offset >> 32n),
    offsetLow: Number(offset & 0xffffffffn),
    lengthBytes: Number(length),
    lengthHigh: Number(length >> 32n),
    lengthLow: Number(length & 0xffffffffn),
    payloadBytes: request.payload?.length ?? 0,
  }
}

export class RawClient {
  readonly socket: Socket
  /** Settles when the connection has ended, by error or not. */
  readonly closed: Promise<void>
  /** What each 'data' event brought, in order. */
  readonly chunks: Buffer[] = []
  #arrived = Buffer.alloc(0)
  #isClosed = false
  #isExtended = false
  #wake: () => void = () => {}

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      this.chunks.push(chunk)
      this.#arrived = Buffer.concat([this.#arrived, chunk])
      this.#wake()
    })
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#isClosed = true
        this.#wake()
        resolve()
      })
    })
  }

  static of(socket: Socket): RawClient {
    return new RawClient(socket)
  }

  static async connect(path: string): Promise<RawClient> {
    const socket = connect({ path })
    const client = new RawClient(socket)
    await once(socket, 'connect')
    return client
  }

  /** The TLS handshake, after STARTTLS was answered; the client that comes out speaks through it. */
  async secure(options: ConnectionOptions): Promise<RawClient & { readonly socket: TLSSocket }> {
    this.socket.removeAllListeners('data')
    const socket = connectTls({ socket: this.socket, ...options })
    await once(socket, 'secureConnect')
    return new RawClient(socket) as RawClient & { readonly socket: TLSSocket }
  }

  /** Connected, and through GO. */
  static async open(
    path: string,
    options: { exportName?: string; structured?: boolean; extended?: boolean; contexts?: string[] } = {},
  ): Promise<RawClient> {
    const client = await RawClient.connect(path)
    await client.greet()
    if (options.structured) await client.option(OptionType.structuredReply)
    if (options.extended) await client.extendHeaders()
    const exportName = options.exportName ?? ''
    if (options.contexts) {
      const queries = encodeMetaContextRequest({ exportName, queries: options.contexts })
      await client.option(OptionType.setMetaContext, queries)
    }
    const { type } = (await client.go(exportName)).at(-1)!
    if (type !== ReplyType.ack) throw new Error(`GO was answered with ${type}`)
    return client
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes)
  }

  request(request: RawRequest): void {
    this.send(this.#isExtended ? extendedRequestBytesOf(request) : requestBytesOf(request))
  }

  /** Agrees on extended headers: request() uses them from here on. */
  async extendHeaders(): Promise<void> {
    const [reply] = await this.option(OptionType.extendedHeaders)
    if (reply!.type !== ReplyType.ack) throw new Error(`EXTENDED_HEADERS was answered with ${reply!.type}`)
    this.#isExtended = true
  }

  disconnect(): void {
    this.request({ type: Command.disc })
  }

  async greet(flags: number = ClientFlag.fixedNewstyle | ClientFlag.noZeroes): Promise<void> {
    await this.take(18)
    this.send(encodeClientFlags(flags))
  }

  /** Sends one option and takes its replies, up to the last. */
  async option(type: number, payload?: Uint8Array): Promise<{ type: number; payload: Buffer }[]> {
    this.send(encodeOption(type, payload))
    return this.optionReplies()
  }

  async optionReplies(): Promise<{ type: number; payload: Buffer }[]> {
    const replies: { type: number; payload: Buffer }[] = []
    for (;;) {
      const header = decodeOptionReplyHeader(await this.take(optionReplyHeaderBytes))!
      replies.push({ type: header.type, payload: await this.take(header.lengthBytes) })
      if (header.type === ReplyType.ack || header.type >= 2 ** 31) return replies
    }
  }

  go(exportName: string, infos: number[] = [InfoType.blockSize]): Promise<{ type: number; payload: Buffer }[]> {
    return this.option(OptionType.go, encodeInfoRequest({ exportName, infos }))
  }

  /** The next `lengthBytes`; rejects if the connection ends first. */
  async take(lengthBytes: number): Promise<Buffer> {
    while (this.#arrived.length < lengthBytes) {
      if (this.#isClosed) throw new Error(`closed, with ${this.#arrived.length} of ${lengthBytes} bytes`)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    const bytes = this.#arrived.subarray(0, lengthBytes)
    this.#arrived = this.#arrived.subarray(lengthBytes)
    return bytes
  }

  async reply(): Promise<SimpleReply> {
    const header = decodeReplyHeader(await this.take(16), 0)
    if (header?.kind !== 'simple') throw new Error('no simple reply')
    return header
  }

  async chunk(): Promise<ChunkHeader & { payload: Buffer }> {
    const header = decodeReplyHeader(await this.take(20), 0)
    if (header?.kind !== 'chunk') throw new Error('no chunk')
    return { ...header, payload: await this.take(header.lengthBytes) }
  }

  async extendedChunk(): Promise<ExtendedChunkHeader & { payload: Buffer }> {
    const header = decodeExtendedReplyHeader(await this.take(32), 0)!
    return { ...header, payload: await this.take(header.lengthBytes) }
  }

  /** The bytes of a READ that is answered in chunks, which come in order. */
  async dataChunks(): Promise<Buffer> {
    const parts: Buffer[] = []
    for (let isDone = false; !isDone; ) {
      const { type, flags, payload } = await this.chunk()
      if (type !== ChunkType.offsetData) throw new Error(`a chunk of type ${type}`)
      parts.push(payload.subarray(8))
      isDone = (flags & ChunkFlag.done) !== 0
    }
    return Buffer.concat(parts)
  }

  /** Bytes that came and were not taken. */
  get leftBytes(): number {
    return this.#arrived.length
  }

  destroy(): void {
    this.socket.destroy()
  }
}

/** A gate for MemoryExport: calls that match wait until released; `reached` tells when one waits. */
export class Gate {
  readonly #pattern: RegExp
  readonly #waiting: { readonly call: string; readonly open: PromiseWithResolvers<void> }[] = []
  #wake: () => void = () => {}

  constructor(pattern: RegExp) {
    this.#pattern = pattern
  }

  readonly enter = (call: string): Promise<void> | undefined => {
    if (!this.#pattern.test(call)) return undefined
    const open = Promise.withResolvers<void>()
    this.#waiting.push({ call, open })
    this.#wake()
    return open.promise
  }

  get waiting(): readonly string[] {
    return this.#waiting.map(({ call }) => call)
  }

  async reached(count: number): Promise<void> {
    while (this.#waiting.length < count) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  /** Lets the waiting call number `index` go on, or fail. */
  release(index = 0, error?: Error): void {
    const [entry] = this.#waiting.splice(index, 1)
    if (error === undefined) entry!.open.resolve()
    else entry!.open.reject(error)
  }

  releaseAll(): void {
    while (this.#waiting.length > 0) this.release()
  }
}

/** No bound that anything promises. What goes on looking after its test has failed keeps the whole run from ending. */
const untilDeadlineMs = 60_000

/** Resolves when `isSo` holds, looked at after every turn of the event loop; rejects when it does not come to hold. */
export async function until(isSo: () => boolean): Promise<void> {
  const end = performance.now() + untilDeadlineMs
  while (!isSo()) {
    if (performance.now() > end) throw new Error(`not within ${untilDeadlineMs} ms: ${isSo}`)
    await new Promise((resolve) => setImmediate(resolve))
  }
}
