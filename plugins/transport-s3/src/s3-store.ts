// Objects in a bucket, below a prefix. What always holds: one attempt a request, with a deadline; bodies are Buffers, never
// streams, which several stores refuse or spoil; and 'stored' is answered to a conditional put only where the condition is
// known to hold: in a bucket that keeps versions, some stores let every put win, and only a version in the answer shows it.

import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import {
  type _Object,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { type Log, type ObjectInfo, type ObjectStore, TransportError, type TransportOptions } from 'vmstore/transport'
import { bytesOf } from './body.ts'
import { type Agents, makeAgents, makeClient } from './client.ts'
import { type Deadline, withDeadline } from './deadline.ts'
import { asksForCredentials, clockWasSet, nameOf, statusOf, transportError } from './failures.ts'
import type { Place, Settings } from './settings.ts'

/** As many as DeleteObjects takes. */
const deletesAtOnce = 1000
const singleDeletesAtOnce = 16
/** A store answers 409 to racers for one key when it cannot tell yet who has won. */
const maxRaces = 6
const raceDelayMs = 50

interface RequestOptions {
  signal?: AbortSignal
}

export class S3Store implements ObjectStore {
  readonly #place: Place
  readonly #settings: Settings
  readonly #agents: Agents
  readonly #log: Log
  #client: S3Client
  #renewing: Promise<boolean> | undefined
  /** Something was answered to these credentials once. */
  #hadCredentials = false
  /** Some stores have no request that deletes many. */
  #deletesSingly = false

  private constructor(place: Place, settings: Settings, agents: Agents, client: S3Client, log: Log) {
    this.#place = place
    this.#settings = settings
    this.#agents = agents
    this.#client = client
    this.#log = log
  }

  static async open(place: Place, settings: Settings, options: TransportOptions): Promise<S3Store> {
    const agents = makeAgents(settings, options)
    return new S3Store(place, settings, agents, await makeClient(settings, agents, options.log), options.log)
  }

  async put(
    key: string,
    body: Uint8Array,
    { ifAbsent = false, signal }: RequestOptions & { ifAbsent?: boolean } = {},
  ): Promise<'stored' | 'exists'> {
    const Body = Buffer.from(body.buffer, body.byteOffset, body.byteLength)
    const input = { ...this.#at(key), Body, ContentLength: body.length, ...(ifAbsent && { IfNoneMatch: '*' }) }
    for (let race = 1; ; race++) {
      try {
        return await this.#request(
          `the object ${key} cannot be put`,
          { bytes: body.length, signal },
          async (client, at) => {
            const { VersionId } = await client.send(new PutObjectCommand(input), { abortSignal: at.signal })
            if (ifAbsent && VersionId !== undefined) throw versioned()
            return 'stored' as const
          },
        )
      } catch (error) {
        const status = statusOf(answerOf(error))
        if (ifAbsent && status === 412) return 'exists'
        if (!ifAbsent || status !== 409 || race === maxRaces) throw error
        await pause(race, signal)
      }
    }
  }

  async get(key: string, { signal }: RequestOptions = {}): Promise<Uint8Array | undefined> {
    try {
      return await this.#request(`the object ${key} cannot be read`, { bytes: 0, signal }, async (client, at) => {
        const { Body, ContentLength } = await client.send(new GetObjectCommand(this.#at(key)), {
          abortSignal: at.signal,
        })
        if (!Body) throw new TransportError('unavailable', 'the answer has no body')
        at.carries(ContentLength ?? 0)
        return await bytesOf(Body as Readable, ContentLength, at.signal)
      })
    } catch (error) {
      const answer = answerOf(error)
      if (statusOf(answer) === 404 && nameOf(answer) === 'NoSuchKey') return undefined
      // Who may not list the whole bucket is not told that an object is absent: it is denied instead.
      if (statusOf(answer) === 403 && nameOf(answer) === 'AccessDenied' && (await this.#isUnlisted(key, signal))) {
        return undefined
      }
      throw error
    }
  }

  async *list(prefix: string, { after, signal }: RequestOptions & { after?: string } = {}): AsyncIterable<ObjectInfo> {
    const { prefix: base } = this.#place
    const start = after === undefined ? {} : { StartAfter: base + after }
    for (let token: string | undefined; ; ) {
      const page = await this.#page(
        { Prefix: base + prefix, ...(token === undefined ? start : { ContinuationToken: token }) },
        signal,
      )
      for (const { Key, Size } of page.contents) {
        if (Key?.startsWith(base + prefix)) yield { key: Key.slice(base.length), sizeBytes: Size ?? 0 }
      }
      if (page.next === undefined) return
      token = page.next
    }
  }

  async delete(keys: readonly string[], { signal }: RequestOptions = {}): Promise<void> {
    signal?.throwIfAborted()
    for (let start = 0; start < keys.length; start += deletesAtOnce) {
      const some = keys.slice(start, start + deletesAtOnce)
      if (!this.#deletesSingly && some.length > 1 && (await this.#deleteTogether(some, signal))) continue
      for (let at = 0; at < some.length; at += singleDeletesAtOnce) {
        await Promise.all(some.slice(at, at + singleDeletesAtOnce).map((key) => this.#deleteOne(key, signal)))
      }
    }
  }

  async close(): Promise<void> {
    this.#client.destroy()
    this.#agents.httpAgent.destroy()
    this.#agents.httpsAgent.destroy()
  }

  #at(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#place.bucket, Key: this.#place.prefix + key }
  }

  async #page(
    input: { Prefix: string; MaxKeys?: number; StartAfter?: string; ContinuationToken?: string },
    signal: AbortSignal | undefined,
  ): Promise<{ contents: readonly _Object[]; next: string | undefined }> {
    return await this.#request('its objects cannot be listed', { bytes: 0, signal }, async (client, at) => {
      const command = new ListObjectsV2Command({ Bucket: this.#place.bucket, ...input })
      const {
        Contents = [],
        IsTruncated,
        NextContinuationToken: next,
      } = await client.send(command, { abortSignal: at.signal })
      if (IsTruncated && (next === undefined || next === input.ContinuationToken)) {
        throw new TransportError('unavailable', 'the listing does not say where it goes on')
      }
      return { contents: Contents, next: IsTruncated ? next : undefined }
    })
  }

  /** False where the listing has it, or may not be read. */
  async #isUnlisted(key: string, signal: AbortSignal | undefined): Promise<boolean> {
    const wanted = this.#place.prefix + key
    try {
      const { contents } = await this.#page({ Prefix: wanted, MaxKeys: 1 }, signal)
      return contents[0]?.Key !== wanted
    } catch (error) {
      if (error instanceof TransportError && error.code === 'denied') return false
      throw error
    }
  }

  /** False: the store has no such request. Content-MD5, as old stores want it. */
  async #deleteTogether(keys: readonly string[], signal: AbortSignal | undefined): Promise<boolean> {
    const Objects = keys.map((key) => ({ Key: this.#place.prefix + key }))
    try {
      await this.#request('objects cannot be deleted', { bytes: 0, signal }, async (client, at) => {
        const input = {
          Bucket: this.#place.bucket,
          Delete: { Objects, Quiet: true },
          ChecksumAlgorithm: 'MD5',
        } as const
        const { Errors = [] } = await client.send(new DeleteObjectsCommand(input), { abortSignal: at.signal })
        const failed = Errors.find(({ Code }) => Code !== 'NoSuchKey')
        if (!failed) return
        const isDenied = failed.Code === 'AccessDenied'
        const message = `${failed.Code} for ${failed.Key}, one of ${Errors.length} that stay`
        throw new TransportError(isDenied ? 'denied' : 'unavailable', message)
      })
      return true
    } catch (error) {
      if (!(error instanceof TransportError) || error.code !== 'unfit') throw error
      this.#deletesSingly = true
      return false
    }
  }

  async #deleteOne(key: string, signal: AbortSignal | undefined): Promise<void> {
    await this.#request(`the object ${key} cannot be deleted`, { bytes: 0, signal }, async (client, at) => {
      try {
        await client.send(new DeleteObjectCommand(this.#at(key)), { abortSignal: at.signal })
      } catch (error) {
        if (statusOf(error) !== 404 || nameOf(error) === 'NoSuchBucket') throw error
      }
    })
  }

  /** One attempt, and a second where it failed by the clock or by credentials that have been renewed since. */
  async #request<T>(
    what: string,
    { bytes, signal }: { bytes: number; signal: AbortSignal | undefined },
    work: (client: S3Client, deadline: Deadline) => Promise<T>,
  ): Promise<T> {
    const attempt = async () => {
      const answer = await withDeadline({ timeoutMs: this.#settings.timeoutMs, bytes, signal }, (at) =>
        work(this.#client, at),
      )
      this.#hadCredentials = true
      return answer
    }
    const client = this.#client
    try {
      try {
        return await attempt()
      } catch (error) {
        if (signal?.aborted) throw error
        if (!clockWasSet(error) && !(asksForCredentials(error) && (await this.#renewed(client)))) throw error
        return await attempt()
      }
    } catch (error) {
      if (signal?.aborted) throw signal.reason
      const { bucket, prefix } = this.#place
      throw transportError(`s3://${bucket}/${prefix}: ${what}`, error, this.#hadCredentials)
    }
  }

  /** True: there are other credentials now than `client` had. Once for all requests that failed at the same time. */
  async #renewed(client: S3Client): Promise<boolean> {
    if (client !== this.#client) return true
    this.#renewing ??= this.#renew().finally(() => {
      this.#renewing = undefined
    })
    return await this.#renewing
  }

  async #renew(): Promise<boolean> {
    const fresh = await makeClient(this.#settings, this.#agents, this.#log)
    const [was, is] = await Promise.all([this.#client.config.credentials(), fresh.config.credentials()])
    if (
      was.accessKeyId === is.accessKeyId &&
      was.secretAccessKey === is.secretAccessKey &&
      was.sessionToken === is.sessionToken
    )
      return false
    this.#client = fresh
    return true
  }
}

/** What the store said, of which the error was made. */
function answerOf(error: unknown): unknown {
  return error instanceof TransportError ? error.cause : undefined
}

/** Random, so that racers do not meet again. */
async function pause(race: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await delay(Math.random() * raceDelayMs * 2 ** race, undefined, signal ? { signal } : {})
  } catch {
    signal?.throwIfAborted()
  }
}

function versioned(): TransportError {
  const message =
    'the bucket keeps versions, and where it does, several may each be told that they came first: ' +
    'use a bucket without versioning for what must be decided'
  return new TransportError('unfit', message)
}
