// The contract between vmstore and a transport plugin. A plugin author moves bytes; vmstore does the rest: encryption,
// authentication, framing, priorities, resumption, integrity, fencing. So every transport has every promise.
// A driver offers one of two kinds: byte streams between two sites, or objects that both sites reach.
// Drivers keep no global state, because they run in workers too.

import type { Duplex } from 'node:stream'

/** A driver states the version it keeps; a driver that states another is refused by name. */
export const contractVersion = 1

/**
 * Carries byte streams between two sites: TCP, SSH, WebSocket, QUIC …
 *
 * What a stream owes, both that of `connect` and that of `accept`: bytes arrive whole, in order, and only once; `write` says
 * when the other side does not keep up, and what waits stays bounded; what was written before `end()` arrives, also if the
 * writer destroys the stream after its 'finish', and then the other side's stream ends; a destroyed or broken one closes at
 * the other side too, and an 'error' that nobody listens for ends no process. It need not stay open the one way after the
 * other has ended: vmstore ends a stream only when it needs nothing more from it.
 */
export interface StreamTransport {
  readonly contractVersion: number
  readonly kind: 'stream'
  /** URL schemes without the colon, such as ['tcp']. */
  readonly schemes: readonly string[]
  /**
   * Resolves once it accepts; `accept` gets every stream until the listener is closed. Rejects with a TransportError. Those
   * that are not known yet are bounded for each address too, if their streams have a `remoteAddress`, as sockets do.
   */
  listen(address: URL, accept: (stream: Duplex) => void, options: TransportOptions): Promise<Listener>
  /** Called once per lane and stripe. Rejects with a TransportError, or with `signal.reason` when aborted. */
  connect(address: URL, options: TransportOptions): Promise<Duplex>
}

export interface Listener {
  /** Where peers dial, with port 0 resolved. */
  readonly address: URL
  /** Stops accepting. Streams that were accepted live on. */
  close(): Promise<void>
}

/** Holds objects that both sites can reach: S3, a folder, another cloud's blobs … */
export interface ObjectTransport {
  readonly contractVersion: number
  readonly kind: 'object'
  readonly schemes: readonly string[]
  open(address: URL, options: TransportOptions): Promise<ObjectStore>
}

export interface ObjectInfo {
  readonly key: string
  readonly sizeBytes: number
}

/**
 * A store makes one attempt of each request and rejects with a TransportError; whoever asked tries again, and bounds each
 * request by its `signal`. After a rejection or an abort a put may still come true.
 * Keys are UTF-8 of at most 512 bytes, their parts between slashes of at most 64 bytes; objects have at most
 * `largestObjectBytes`.
 */
export interface ObjectStore {
  /**
   * Resolves once the object outlives a crash of the store. With `ifAbsent` exactly one of any number of puts of a key
   * answers 'stored', whichever processes and hosts they come from: a store that cannot keep that, or of whose answer it is
   * not certain (a bucket whose versions are kept), rejects with the code 'unfit', and may have stored the object. 'exists'
   * may mean one's own object, of a put whose answer was lost: read and compare.
   */
  put(
    key: string,
    body: Uint8Array,
    options?: { ifAbsent?: boolean; signal?: AbortSignal },
  ): Promise<'stored' | 'exists'>
  /** undefined: no such object. What comes back may be cut or wrong: whoever asked checks it. */
  get(key: string, options?: { signal?: AbortSignal }): Promise<Uint8Array | undefined>
  /** Keys in order of their bytes, after `after`. A listing never proves that an object is absent. */
  list(prefix: string, options?: { after?: string; signal?: AbortSignal }): AsyncIterable<ObjectInfo>
  /** Of any number; what is not there is deleted already. */
  delete(keys: readonly string[], options?: { signal?: AbortSignal }): Promise<void>
  close(): Promise<void>
}

/** One line of a driver's log: symbolic names and numbers, then a sentence. */
export type Log = Record<'debug' | 'info' | 'warn' | 'error', (facts: Record<string, unknown>, message: string) => void>

export interface TransportOptions {
  readonly signal: AbortSignal
  readonly log: Log
  readonly purpose: 'control' | 'demand' | 'background'
  /** The configuration's transports.<scheme>. Secrets never stand in URLs. */
  readonly settings: Readonly<Record<string, unknown>>
  /** Ours: congestion control and buffers, for drivers that have a socket. Never throws. */
  tune(fd: number): void
}

export type TransportDriver = StreamTransport | ObjectTransport

/** No object is larger: a driver refuses to read one that is, whoever put it there. */
export const largestObjectBytes = 64 * 1024 * 1024

/**
 * 'unavailable': not now, try again; 'throttled': too much, try again later; 'denied': this account may not, or not so;
 * 'missing': what the address names is not there; 'unfit': the store cannot do what was asked, and never will.
 */
export type TransportErrorCode = 'unavailable' | 'throttled' | 'denied' | 'missing' | 'unfit'

/** What a driver throws when the world is at fault. Recognised by `name` and `code`: a plugin may carry a copy of this module. */
export class TransportError extends Error {
  readonly code: TransportErrorCode
  readonly retryAfterMs: number | undefined
  constructor(code: TransportErrorCode, message: string, options?: ErrorOptions & { retryAfterMs?: number }) {
    super(message, options)
    this.name = 'TransportError'
    this.code = code
    this.retryAfterMs = options?.retryAfterMs
  }
}
