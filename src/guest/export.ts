// The contract between a guest-facing server and what it serves, written by its user. The server knows sockets and the bytes
// of a protocol; whoever implements `Export` knows disks. Nothing here is of one protocol: it is for each server to say which
// of its statuses, options and errors these are.
//
// The server validates every request against the export's size and rights before it calls a handle, so that a handle can
// trust offsets and lengths: 0 <= offset, 1 <= length, offset + length <= sizeBytes, all safe integers.
// A handle answers at once (returns undefined) when the work is at hand, and with a promise when it is not, so that a
// request whose bytes are in the page cache costs no turn of the event loop.
// Every export can do all that a handle has: a server offers all of it to every client, but changes to one that is read-only.
// All sessions of an export see one disk: what one wrote the others read, and what one flushes is what all wrote.

export type MaybePromise<T> = T | Promise<T>

/**
 * What a guest can be told, other than success:
 * - `io`: the storage failed, or what the request stands for cannot be known.
 * - `no-space`: there is no room for what it would write.
 * - `not-permitted`: refused to this client, or now; the sentence says why.
 * - `not-served`: another site serves it, or nobody does any more.
 * - `unsupported`: it cannot be done in the way that was asked for.
 */
export type GuestErrorCode = 'io' | 'no-space' | 'not-permitted' | 'not-served' | 'unsupported'

/** An error that a client is told, with its sentence. Of any other error it is told that the storage failed, and no more. */
export class GuestError extends Error {
  readonly code: GuestErrorCode
  constructor(code: GuestErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'GuestError'
    this.code = code
  }
}

/**
 * What an export can tell of its blocks, by kind, and the words that a kind has: the first is for what has not come here.
 * - `allocation`: `hole` and `zero` read as zeros, and a hole takes no room. What is not known to be zeros is data.
 * - `present`: whether the bytes are at this site.
 * - `dirty`: whether the guest may have changed them since this site took the disk over, so that they may differ from what
 *   the source gave. Where no map tells, all of them count as changed.
 */
export const statusWords = {
  allocation: ['data', 'hole', 'zero'],
  present: ['absent', 'present'],
  dirty: ['clean', 'dirty'],
} as const

export type StatusKind = keyof typeof statusWords

/** The words of one kind; without a kind, of any. */
export type StatusWord<Kind extends StatusKind = StatusKind> = (typeof statusWords)[Kind][number]

/** A range and what is told of it. */
export interface StatusExtent<Kind extends StatusKind = StatusKind> {
  readonly lengthBytes: number
  readonly status: StatusWord<Kind>
}

/** How a session ended: `disconnected` if its client took leave as the protocol has it, `broken` in any other way. */
export type SessionEnd = 'disconnected' | 'broken'

/** The names that a server offers. `find('')` is the default export, if there is one. */
export interface ExportCatalog {
  /** Names to show to whoever asks what there is, in order. */
  list(): readonly string[]
  find(name: string): Export | undefined
}

export interface Export {
  /** The same for as long as the thing exists, whatever its name, and of no other: a disk's UUID. */
  readonly id: string
  readonly name: string
  readonly description: string
  readonly sizeBytes: number
  readonly readOnly: boolean
  /** The kinds of status that `blockStatus` answers now, `allocation` among them. */
  readonly statuses: readonly StatusKind[]
  /**
   * Starts a session's use of the export; `client` is for messages ("127.0.0.1:40000", "unix"). `isElsewhere`: it is at
   * another host, and outlives this one. Throws GuestError if it may not be opened now.
   */
  open(client: string, isElsewhere: boolean): ExportHandle
}

/** Takes pages of a file (system/page-pipe.ts). */
export interface PageTaker {
  /** The number of bytes taken; fewer than asked for when the file cannot give them. */
  takeFrom(fd: number, offset: number, lengthBytes: number): number
  /** Gives up all that was taken. */
  discard(): void
}

/** One session's use of an export. Every method may throw, or reject with, a GuestError. Lengths and offsets are bytes. */
export interface ExportHandle {
  /** Fills `target` with the bytes at `offset`. `target` is not touched after the promise settles. */
  read(offset: number, target: Uint8Array): MaybePromise<void>
  /**
   * What read() would answer with at once, given to `pipe` by reference: true. false: nothing is in the pipe, and read()
   * serves. Bytes that a write changes before the client has the reply may be the new ones: for the client, both requests
   * were under way. Without this method, every read copies.
   */
  readPages?(offset: number, lengthBytes: number, pipe: PageTaker): boolean
  /**
   * Whether write() of this range without FUA, called in the same step, would answer at once (return, or throw) and keep
   * nothing of `source`. Its bytes need not be copied then. Without this method, no write does.
   */
  takesAtOnce?(offset: number, lengthBytes: number): boolean
  /** Writes all of `source`; with `fua` (force unit access), durably. `source` is the handle's until the promise settles. */
  write(offset: number, source: Uint8Array, fua: boolean): MaybePromise<void>
  trim(offset: number, lengthBytes: number, fua: boolean): MaybePromise<void>
  /** Zeroes the range. */
  writeZeroes(offset: number, lengthBytes: number, options: ZeroOptions): MaybePromise<void>
  /** Resolves when every write that any session of the export completed before this call is durable. */
  flush(): MaybePromise<void>
  /** A prefetch. */
  cache(offset: number, lengthBytes: number): MaybePromise<void>
  /** Extents of that kind from `offset` on; they cover at least 1 byte and at most `lengthBytes`, at most `limit` of them. */
  blockStatus(
    kind: StatusKind,
    offset: number,
    lengthBytes: number,
    limit: number,
  ): MaybePromise<readonly StatusExtent[]>
  /** Whether a write of this session was answered, or is under way, that no flush covers yet. */
  readonly hasUnflushed?: boolean
  /** The client is known to be gone, or to send nothing more, while requests may be in flight: nobody waits for these. */
  hangUp?(): void
  /** The session is over. Called once; nothing is called after. */
  close(end: SessionEnd): void
}

export interface ZeroOptions {
  /** False: the range stays allocated. */
  readonly mayPunch: boolean
  /** `unsupported` rather than slower than it takes to note it. */
  readonly fast: boolean
  readonly fua: boolean
}
