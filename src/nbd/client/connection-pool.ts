// The connections of a SteadyNbdClient: which of them a request gets, when another is dialled, and when it is all over.
// Always: a connection is claimed in the step in which it was found open; whoever waits for one waits a bounded time, and
// ends with its signal; once `over` is aborted no socket is left.

import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { NbdClient } from './client.ts'
import type { NbdConnectOptions } from './connection.ts'
import { NbdChangedError, NbdConnectionError } from './errors.ts'
import type { NbdExportInfo } from './negotiation.ts'
import { SteadyConnection } from './steady-connection.ts'

export interface SteadyClock {
  nowMs(): number
  /** Ends early when the signal aborts. */
  sleep(durationMs: number, signal: AbortSignal): Promise<void>
}

export interface SteadyOptions extends NbdConnectOptions {
  /** At most this many, where the server allows several. Default 4. */
  readonly connections?: number
  /** How long the server may be away. Default 60 s. */
  readonly reconnectForMs?: number
  readonly clock?: SteadyClock
  /** 0 <= value < 1 */
  readonly random?: () => number
}

/** What the export was when it was first opened. */
export interface ExportFacts {
  readonly info: NbdExportInfo
  readonly contexts: readonly string[]
}

/** Its holder takes 1 off `connection.load` when it is done. */
export interface Claim {
  readonly connection: SteadyConnection
  readonly client: NbdClient
}

const connectionsDefault = 4
const reconnectForDefaultMs = 60_000
const unflushed =
  'the connection broke before all that was written was flushed: what came after the last flush may be lost'

const systemClock: SteadyClock = {
  nowMs: () => performance.now(),
  sleep: async (durationMs, signal) => {
    await sleep(durationMs, undefined, { signal }).catch(() => {}) // Whoever waits looks at the signal itself.
  },
}

export class ConnectionPool {
  readonly #uri: string
  readonly #options: SteadyOptions
  readonly #clock: SteadyClock
  readonly #connections: SteadyConnection[] = []
  readonly #over = new AbortController()
  #facts: ExportFacts | undefined

  private constructor(uri: string, options: SteadyOptions) {
    this.#uri = uri
    this.#options = options
    this.#clock = options.clock ?? systemClock
  }

  static async open(uri: string, options: SteadyOptions): Promise<ConnectionPool> {
    const pool = new ConnectionPool(uri, options)
    try {
      const first = await untilAborted(pool.#addConnection().open(), options.signal ?? pool.over)
      pool.#facts = factsOf(first)
    } catch (error) {
      pool.destroy(error as Error)
      throw error
    }
    const count = pool.facts.info.canMultiConn ? (options.connections ?? connectionsDefault) : 1
    while (pool.#connections.length < count) pool.#addConnection()
    return pool
  }

  get facts(): ExportFacts {
    assert(this.#facts)
    return this.#facts
  }

  /** Aborted when nothing works any more, with the reason. */
  get over(): AbortSignal {
    return this.#over.signal
  }

  /**
   * The open connection with the least to do; while all are busy others are dialled beside. Without one it waits, for the
   * server, at most `reconnectForMs` and the dial that is under way then. Claimed in the step in which it was found.
   */
  async claim(signal: AbortSignal | undefined): Promise<Claim> {
    const giveUpMs = this.#clock.nowMs() + (this.#options.reconnectForMs ?? reconnectForDefaultMs)
    for (let trouble: Error | undefined; ; ) {
      this.over.throwIfAborted()
      signal?.throwIfAborted()
      const claim = this.#leastLoaded()
      const dials = claim === undefined || claim.connection.load > 0 ? this.#dialMore() : []
      if (claim !== undefined) {
        claim.connection.load++
        return claim
      }
      const leftMs = giveUpMs - this.#clock.nowMs()
      if (leftMs <= 0) throw new NbdConnectionError(awayText(trouble), { cause: trouble })
      const wanted = signal === undefined ? this.over : AbortSignal.any([signal, this.over])
      if (dials.length === 0) await this.#clock.sleep(Math.min(leftMs, this.#restMs()), wanted)
      else trouble = (await untilAborted(firstOf(dials), wanted)) ?? trouble
    }
  }

  /** Connections over which something went that is not known to be durable. */
  claimDirty(): Claim[] {
    return this.#connections.flatMap((connection) => {
      const { client, isDirty } = connection
      if (!isDirty || client === undefined) return []
      connection.load++
      return [{ connection, client }]
    })
  }

  /** Says DISC on every connection, and resolves when the server has hung up. */
  async disconnect(): Promise<void> {
    const open = this.#connections.flatMap(({ client }) => client ?? [])
    this.#over.abort(new NbdConnectionError('the client has said DISC'))
    await Promise.all(open.map((client) => client.disconnect()))
  }

  /** Requests under way fail with `error`. */
  destroy(error: Error): void {
    this.#over.abort(error)
    for (const { client } of this.#connections) client?.destroy(error)
  }

  #leastLoaded(): Claim | undefined {
    let least: Claim | undefined
    for (const connection of this.#connections) {
      const { client, load } = connection
      if (client !== undefined && load < (least?.connection.load ?? Infinity)) least = { connection, client }
    }
    return least
  }

  /** Dials what is not open and has rested. */
  #dialMore(): Promise<unknown>[] {
    const nowMs = this.#clock.nowMs()
    const rested = this.#connections.filter(({ client, restsUntilMs }) => client === undefined && restsUntilMs <= nowMs)
    const dials = rested.map((connection) => connection.open())
    for (const dial of dials) dial.catch(() => {}) // Nobody may be waiting for it.
    return dials
  }

  #restMs(): number {
    const until = Math.min(...this.#connections.map(({ restsUntilMs }) => restsUntilMs))
    return Math.max(1, until - this.#clock.nowMs())
  }

  #addConnection(): SteadyConnection {
    const connection: SteadyConnection = new SteadyConnection({
      dial: () => this.#dial(),
      onBreak: () => this.#broken(connection),
      nowMs: () => this.#clock.nowMs(),
      random: this.#options.random ?? Math.random,
    })
    this.#connections.push(connection)
    return connection
  }

  async #dial(): Promise<NbdClient> {
    const client = await NbdClient.connect(this.#uri, { ...this.#options, signal: this.over })
    if (this.over.aborted) client.destroy()
    this.over.throwIfAborted()
    const change = this.#facts && differenceOf(this.#facts, factsOf(client))
    if (change === undefined) return client
    const error = new NbdChangedError(`the server came back with another export: ${change}`)
    client.destroy(error)
    this.destroy(error)
    throw error
  }

  /** The connection has ended. It is mended only if nothing that went over it can have been lost. */
  #broken(connection: SteadyConnection): void {
    if (!connection.isDirty || this.over.aborted) return
    this.destroy(new NbdConnectionError(unflushed))
  }
}

function factsOf(client: NbdClient): ExportFacts {
  return { info: client.info(), contexts: client.contexts }
}

/** What of an export must not change under its client, as a sentence's end; undefined: nothing did. */
function differenceOf(before: ExportFacts, now: ExportFacts): string | undefined {
  const pairs: [string, string | number, string | number][] = [
    ['bytes', before.info.sizeBytes, now.info.sizeBytes],
    ['flags', before.info.flags, now.info.flags],
    ['smallest block', before.info.blockSize.minimum, now.info.blockSize.minimum],
    ['largest payload', before.info.blockSize.maximum, now.info.blockSize.maximum],
    ['contexts', before.contexts.join(' '), now.contexts.join(' ')],
  ]
  const changed = pairs.find(([, was, is]) => was !== is)
  return changed && `its ${changed[0]} were ${changed[1]} and are ${changed[2]}`
}

const awayText = (trouble: Error | undefined): string =>
  `the server did not come back${trouble === undefined ? '' : `: ${trouble.message}`}`

/** Resolves when one of the dials has succeeded, to nothing, or when all have failed, to why the first did. */
async function firstOf(dials: readonly Promise<unknown>[]): Promise<Error | undefined> {
  try {
    await Promise.any(dials)
    return undefined
  } catch (error) {
    return (error as AggregateError).errors[0] as Error
  }
}

async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => {}) // It may fail after the signal, with nobody to tell.
  signal.throwIfAborted()
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
