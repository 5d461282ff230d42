// A client of one export that uses several connections and mends those that break.
//
// What is repeated after a break: READ, BLOCK_STATUS and CACHE, and a FLUSH that has nothing to cover. Nothing else. A WRITE, TRIM
// or WRITE_ZEROES whose connection broke may still be on its way inside the server, and would land over a later one; and
// what was answered and not flushed is lost if the server crashed, which a new connection cannot tell. So a connection that
// breaks while anything written over it is not known to be durable ends the client, with an error that says so; whoever
// writes then opens a new client and writes again all that came after its last flush. A client that only reads, or whose
// writes are flushed, goes on.
//
// Always: more than one connection only where the server says CAN_MULTI_CONN; a flush goes over every connection that
// carried writes; a new connection's export has the same size, abilities and block sizes as the first, or the client
// ends; a request waits at most `reconnectForMs` for a connection (plus one connect timeout), and ends with its signal.

import { ErrorNumber } from '../wire/constants.ts'
import type { ContextExtent } from '../wire/transmission-codecs.ts'
import { parts, type Range, type RequestBounds, requestBounds, widened } from './block-sizes.ts'
import type { NbdClient, NbdRequestOptions, NbdWriteOptions, NbdZeroOptions } from './client.ts'
import { type Claim, ConnectionPool, type SteadyOptions } from './connection-pool.ts'
import { NbdConnectionError, NbdRequestError } from './errors.ts'
import type { NbdExportInfo } from './negotiation.ts'
import type { SteadyConnection } from './steady-connection.ts'

export type { SteadyOptions } from './connection-pool.ts'

/**
 * Breaks that one request outlives over connections that answered nothing while it was under way: after more it may be
 * the request that breaks the server. A connection that breaks often and answers in between brings the work on.
 */
export const repeatsMax = 5

type Request<T> = (client: NbdClient, connection: SteadyConnection) => Promise<T>

export class SteadyNbdClient {
  readonly #pool: ConnectionPool
  readonly #bounds: RequestBounds

  private constructor(pool: ConnectionPool) {
    this.#pool = pool
    this.#bounds = requestBounds(pool.facts.info)
  }

  /** Opens the URI's export; the first connection is tried once. Throws as NbdClient.connect does. */
  static async connect(uri: string, options: SteadyOptions = {}): Promise<SteadyNbdClient> {
    const pool = await ConnectionPool.open(uri, options)
    try {
      return new SteadyNbdClient(pool)
    } catch (error) {
      pool.destroy(error as Error)
      throw error
    }
  }

  info(): NbdExportInfo {
    return this.#pool.facts.info
  }

  /** Names of the metadata contexts that blockStatus() answers. */
  get contexts(): readonly string[] {
    return this.#pool.facts.contexts
  }

  /** Of any offset and length within the export: the server's block sizes are kept. */
  async read(offset: number, lengthBytes: number, { signal }: NbdRequestOptions = {}): Promise<Buffer> {
    const { alignBytes, payloadBytes } = this.#bounds
    const wide = widened({ offset, lengthBytes }, alignBytes)
    const read = (part: Range) =>
      this.#repeat(signal, (client) => client.read(part.offset, part.lengthBytes, given(signal)))
    const bytes = await Promise.all(parts(wide, payloadBytes).map(read))
    const whole = bytes.length === 1 ? bytes[0]! : Buffer.concat(bytes)
    return whole.subarray(offset - wide.offset, offset - wide.offset + lengthBytes)
  }

  /** Extents from `offset` on, which is aligned; at least one for each context, and maybe not all that was asked. */
  blockStatus(
    offset: number,
    lengthBytes: number,
    { signal }: NbdRequestOptions = {},
  ): Promise<ReadonlyMap<string, readonly ContextExtent[]>> {
    const length = Math.min(lengthBytes, this.#bounds.rangeBytes)
    return this.#repeat(signal, (client) => client.blockStatus(offset, length, given(signal)))
  }

  async cache(offset: number, lengthBytes: number, { signal }: NbdRequestOptions = {}): Promise<void> {
    this.#need(this.info().canCache, 'NBD_CMD_CACHE')
    const wide = widened({ offset, lengthBytes }, this.#bounds.alignBytes)
    const cache = (part: Range) =>
      this.#repeat(signal, (client) => client.cache(part.offset, part.lengthBytes, given(signal)))
    await Promise.all(parts(wide, this.#bounds.rangeBytes).map(cache))
  }

  /** Aligned: a part of a block cannot be written without a race. `source` must not change until this settles. */
  async write(offset: number, source: Uint8Array, options: NbdWriteOptions = {}): Promise<void> {
    await this.#write({ offset, lengthBytes: source.length }, this.#bounds.payloadBytes, options, (client, part) =>
      client.write(
        part.offset,
        source.subarray(part.offset - offset, part.offset - offset + part.lengthBytes),
        options,
      ),
    )
  }

  async trim(offset: number, lengthBytes: number, options: NbdWriteOptions = {}): Promise<void> {
    this.#need(this.info().canTrim, 'NBD_CMD_TRIM')
    await this.#write({ offset, lengthBytes }, this.#bounds.rangeBytes, options, (client, part) =>
      client.trim(part.offset, part.lengthBytes, options),
    )
  }

  async writeZeroes(offset: number, lengthBytes: number, options: NbdZeroOptions = {}): Promise<void> {
    this.#need(this.info().canWriteZeroes, 'NBD_CMD_WRITE_ZEROES')
    if (options.fastZero) this.#need(this.info().canFastZero, 'NBD_CMD_FLAG_FAST_ZERO')
    await this.#write({ offset, lengthBytes }, this.#bounds.rangeBytes, options, (client, part) =>
      client.writeZeroes(part.offset, part.lengthBytes, options),
    )
  }

  /** Everything that was answered before this call is durable. */
  async flush(options: NbdRequestOptions = {}): Promise<void> {
    this.#need(this.info().canFlush, 'NBD_CMD_FLUSH')
    const dirty = this.#pool.claimDirty()
    if (dirty.length === 0) return this.#repeat(options.signal, (client) => client.flush(options))
    const flush: Request<void> = (client, connection) => connection.flush(() => client.flush(options))
    await Promise.all(dirty.map((claim) => this.#onceOver(claim, flush)))
  }

  /** Says DISC on every connection, and resolves when the server has hung up. */
  disconnect(): Promise<void> {
    return this.#pool.disconnect()
  }

  /** Breaks every connection off; requests under way fail with `error`. */
  destroy(error: Error = new NbdConnectionError('the client broke the connection off')): void {
    this.#pool.destroy(error)
  }

  /** For what may be asked again: over any connection, again after a break. */
  async #repeat<T>(signal: AbortSignal | undefined, request: Request<T>): Promise<T> {
    for (let breaks = 0; ; ) {
      const claim = await this.#pool.claim(signal)
      const { answers } = claim.connection
      try {
        return await this.#onceOver(claim, request)
      } catch (error) {
        this.#pool.over.throwIfAborted()
        if (!(error instanceof NbdConnectionError)) throw error
        if (claim.connection.answers === answers && breaks++ === repeatsMax) throw error
      }
    }
  }

  async #write(
    range: Range,
    maxBytes: number,
    { signal, fua = false }: NbdWriteOptions,
    send: (client: NbdClient, part: Range) => Promise<void>,
  ): Promise<void> {
    if (fua) this.#need(this.info().canFua, 'NBD_CMD_FLAG_FUA')
    const { alignBytes } = this.#bounds
    if (range.offset % alignBytes !== 0 || range.lengthBytes % alignBytes !== 0) {
      const { offset, lengthBytes } = range
      throw new RangeError(`offset ${offset} and length ${lengthBytes} must be multiples of the server's ${alignBytes}`)
    }
    const isDurable = fua || !this.info().canFlush // Without a flush the server's answer is all that there is.
    const writePart = async (part: Range) => {
      const claim = await this.#pool.claim(signal)
      await this.#onceOver(claim, (client, connection) => connection.write(isDurable, () => send(client, part)))
    }
    await Promise.all(parts(range, maxBytes).map(writePart))
  }

  /** One try, over a connection that was claimed. */
  async #onceOver<T>({ connection, client }: Claim, request: Request<T>): Promise<T> {
    try {
      const value = await request(client, connection)
      connection.answered()
      return value
    } catch (error) {
      if (error instanceof NbdConnectionError) connection.broke(client)
      if (error instanceof NbdRequestError) connection.answered()
      throw error
    } finally {
      connection.load--
    }
  }

  /** proto.md: a client sends only what the server's flags offer. */
  #need(isOffered: boolean, what: string): void {
    if (!isOffered) throw new NbdRequestError(`the server does not offer ${what}`, ErrorNumber.ENOTSUP)
  }
}

const given = (signal: AbortSignal | undefined): NbdRequestOptions => (signal === undefined ? {} : { signal })
