// A small S3 server in memory, on loopback: strict where real stores are lenient, and faulty where it is told to be. The tests'
// object storage, and the one that `vmstore demo --via s3` brings along. It knows objects (PUT, GET, HEAD, DELETE), DeleteObjects
// and ListObjectsV2, in path and virtual style, signed.

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { Bucket, type BucketTraits } from './bucket.ts'
import { notImplemented, S3Failure } from './failure.ts'
import { type Answer, type Fault, Faults, send, type Trouble } from './faults.ts'
import { bodyOf, hasSum, isConditional, onlyKnows, type Target, targetOf } from './requests.ts'
import { type AccessKey, verify } from './signature.ts'
import { deletedDocument, errorDocument, keysToDelete, listingDocument } from './xml.ts'

export interface S3ServerOptions {
  readonly buckets: Readonly<Record<string, BucketTraits>>
  readonly keys: readonly AccessKey[]
  readonly region?: string
  /** 0, which is also the default: any that is free. */
  readonly port?: number
  /** Virtual style is `bucket.domain`. */
  readonly domain?: string
}

export interface SeenRequest {
  readonly method: string
  readonly bucket: string
  readonly key: string
  readonly headers: Target['headers']
  /** Of the connection that it came over: each has another. */
  readonly connection: number
  /** 0 as long as it is not answered. */
  status: number
}

const mostKeys = 1000
/** How long a bucket that is racy does not know what else was put. */
const replicationMs = 20
/** Requests that tests look at afterwards; a demo makes more. */
const mostSeen = 10_000

export class S3Server {
  readonly faults = new Faults()
  /** The last ones, oldest first. */
  readonly seen: SeenRequest[] = []
  /** Who may sign; may be changed at any time. */
  keys: readonly AccessKey[]
  /** How far this server's clock is ahead. */
  clockOffsetMs = 0
  /** What the policy refuses: an action on an object, or 's3:ListBucket' on a prefix. */
  refuses: (action: string, name: string) => boolean = () => false
  readonly #buckets: ReadonlyMap<string, Bucket>
  readonly #region: string
  readonly #domain: string
  readonly #server: Server
  #connections = 0
  readonly #connectionOf = new WeakMap<object, number>()

  private constructor(options: S3ServerOptions) {
    this.keys = options.keys
    this.#region = options.region ?? 'us-east-1'
    this.#domain = options.domain ?? 'localhost'
    this.#buckets = new Map(Object.entries(options.buckets).map(([name, traits]) => [name, new Bucket(traits)]))
    this.#server = createServer(
      { keepAliveTimeout: 60_000 },
      (request, response) => void this.#serve(request, response),
    )
    this.#server.on('connection', (socket) => this.#connectionOf.set(socket, ++this.#connections))
  }

  static async start(options: S3ServerOptions): Promise<S3Server> {
    const server = new S3Server(options)
    server.#server.listen(options.port ?? 0, '127.0.0.1')
    await once(server.#server, 'listening')
    return server
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  bucket(name: string): Bucket {
    const bucket = this.#buckets.get(name)
    if (!bucket) throw new S3Failure(404, 'NoSuchBucket', 'The specified bucket does not exist')
    return bucket
  }

  spoil(trouble: Trouble, where: Omit<Fault, 'trouble'> = {}): void {
    this.faults.add({ trouble, ...where })
  }

  async close(): Promise<void> {
    if (!this.#server.listening) return
    this.#server.close()
    this.#server.closeAllConnections()
    await once(this.#server, 'close')
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const requestId = randomBytes(8).toString('hex').toUpperCase()
    let trouble: Trouble | undefined
    let seen: SeenRequest | undefined
    let answer: Answer
    try {
      const target = targetOf(request, this.#domain)
      seen = this.#note(target, request)
      trouble = this.faults.take(target.method, target.key)
      if (trouble?.kind === 'reset') {
        request.socket.resetAndDestroy()
        return
      }
      answer = await this.#answer(request, target, trouble)
    } catch (error) {
      if (request.destroyed && !request.complete) return
      const failure = error instanceof S3Failure ? error : new S3Failure(500, 'InternalError', String(error))
      const body = request.method === 'HEAD' ? Buffer.alloc(0) : errorDocument(failure, requestId)
      answer = { status: failure.status, headers: { 'content-type': 'application/xml', ...failure.headers }, body }
      // What is left of a body that nobody read would be taken for the next request.
      request.resume()
    }
    if (trouble?.kind === 'wait') await trouble.until
    if (seen) seen.status = answer.status
    if (trouble?.kind === 'reset-when-done') request.socket.resetAndDestroy()
    else
      send(
        response,
        { ...answer, headers: { date: this.#now().toUTCString(), 'x-amz-request-id': requestId, ...answer.headers } },
        trouble,
      )
  }

  #note({ method, bucket, key, headers }: Target, request: IncomingMessage): SeenRequest {
    const connection = this.#connectionOf.get(request.socket) ?? 0
    const seen: SeenRequest = { method, bucket, key, headers, connection, status: 0 }
    this.seen.push(seen)
    if (this.seen.length > mostSeen) this.seen.shift()
    return seen
  }

  async #answer(request: IncomingMessage, target: Target, trouble: Trouble | undefined): Promise<Answer> {
    verify(target, { region: this.#region, keys: this.keys, nowMs: this.#now().getTime() })
    const wasThere = this.#buckets.get(target.bucket)?.get(target.key) !== undefined
    const body = await bodyOf(request, target)
    if (this.#buckets.get(target.bucket)?.traits.conditions === 'racy') await delay(replicationMs)
    if (trouble?.kind === 'status') throw new S3Failure(trouble.status, trouble.code, 'as told', trouble.headers)
    const bucket = this.bucket(target.bucket)
    if (target.key === '') return this.#ofBucket(target, bucket, body)
    onlyKnows(target, [])
    if (target.headers['range'] !== undefined) throw notImplemented('Range')
    switch (target.method) {
      case 'PUT':
        return this.#put(target, bucket, body, wasThere)
      case 'GET':
      case 'HEAD':
        return this.#get(target, bucket)
      case 'DELETE':
        this.#permit('s3:DeleteObject', target.key)
        bucket.delete(target.key)
        return { status: 204, headers: {}, body: Buffer.alloc(0) }
      default:
        throw notImplemented(target.method)
    }
  }

  #put(target: Target, bucket: Bucket, body: Buffer, wasThere: boolean): Answer {
    this.#permit('s3:PutObject', target.key)
    const version = bucket.put(target.key, body, { ifNoneMatch: isConditional(target), wasThere })
    const headers = { etag: bucket.get(target.key)!.etag, ...(version && { 'x-amz-version-id': version }) }
    return { status: 200, headers, body: Buffer.alloc(0) }
  }

  #get({ key, method }: Target, bucket: Bucket): Answer {
    this.#permit('s3:GetObject', key)
    const found = bucket.get(key)
    // "If you don't have the s3:ListBucket permission, Amazon S3 returns 403": of the whole bucket, without a prefix.
    if (!found && this.refuses('s3:ListBucket', '')) throw denied('s3:ListBucket')
    if (!found) throw new S3Failure(404, 'NoSuchKey', 'The specified key does not exist.')
    const headers = { etag: found.etag, 'last-modified': found.changedAt.toUTCString() }
    if (method === 'GET') return { status: 200, headers, body: found.bytes }
    return { status: 200, headers: { ...headers, 'content-length': String(found.bytes.length) }, body: Buffer.alloc(0) }
  }

  #ofBucket(target: Target, bucket: Bucket, body: Buffer): Answer {
    const headers = { 'content-type': 'application/xml' }
    if (target.method === 'GET' && target.parameter('list-type') === '2') {
      return { status: 200, headers, body: this.#listing(target, bucket) }
    }
    if (target.method === 'POST' && target.parameter('delete') !== undefined && bucket.traits.deletesMany !== false) {
      return { status: 200, headers, body: this.#deleteMany(target, bucket, body) }
    }
    throw notImplemented(`${target.method} of a bucket`)
  }

  #listing(target: Target, bucket: Bucket): Buffer {
    onlyKnows(target, ['list-type', 'prefix', 'start-after', 'continuation-token', 'max-keys'])
    const prefix = target.parameter('prefix') ?? ''
    this.#permit('s3:ListBucket', prefix)
    const maxKeys = Math.min(Number(target.parameter('max-keys') ?? mostKeys), mostKeys)
    const token = target.parameter('continuation-token')
    const after =
      token === undefined ? (target.parameter('start-after') ?? '') : Buffer.from(token, 'base64url').toString()
    const page = bucket.list(prefix, after, maxKeys)
    const last = page.objects.at(-1)?.[0] ?? ''
    const next = Buffer.from(last).toString('base64url')
    return listingDocument({ bucket: target.bucket, prefix, maxKeys, page, token: next })
  }

  #deleteMany(target: Target, bucket: Bucket, body: Buffer): Buffer {
    onlyKnows(target, ['delete'])
    if (!hasSum(target))
      throw new S3Failure(400, 'InvalidRequest', 'Missing required header for this request: Content-MD5')
    const { keys, isQuiet } = keysToDelete(body)
    const refused = keys.filter((key) => this.refuses('s3:DeleteObject', key))
    const deleted = keys.filter((key) => !refused.includes(key))
    for (const key of deleted) bucket.delete(key)
    return deletedDocument(isQuiet ? [] : deleted, refused)
  }

  #now(): Date {
    return new Date(Date.now() + this.clockOffsetMs)
  }

  #permit(action: string, name: string): void {
    if (this.refuses(action, name)) throw denied(action)
  }
}

function denied(action: string): S3Failure {
  return new S3Failure(403, 'AccessDenied', `No policy allows ${action}`)
}
