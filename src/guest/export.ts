// What the NBD server serves: the interface of an export, written by its user. The server knows sockets and bytes of the
// protocol; whoever implements `Export` knows disks.
//
// The server validates every request against the export's size and flags before it calls a handle, so that a handle can
// trust offsets and lengths: 0 <= offset, 1 <= length, offset + length <= sizeBytes, all safe integers.
// A handle answers at once (returns undefined) when the work is at hand, and with a promise when it is not, so that a
// request whose bytes are in the page cache costs no turn of the event loop.

export type MaybePromise<T> = T | Promise<T>

/** The errors that NBD lets travel (proto.md, "Error values"). */
export type NbdErrorCode = 'EPERM' | 'EIO' | 'ENOMEM' | 'EINVAL' | 'ENOSPC' | 'EOVERFLOW' | 'ENOTSUP' | 'ESHUTDOWN'

/** An error that a client is told: one of the protocol's codes and a sentence. Any other error reaches a client as EIO. */
export class NbdError extends Error {
  readonly code: NbdErrorCode
  constructor(code: NbdErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'NbdError'
    this.code = code
  }
}

/** A range with a status, in a metadata context. `flags` is that context's own (proto.md, "Metadata contexts"). */
export interface StatusExtent {
  readonly lengthBytes: number
  readonly flags: number
}

/** `base:allocation` (proto.md, "The base: metadata namespace"). */
export const AllocationFlag = { hole: 1 << 0, zero: 1 << 1 } as const

/** How a session ended: `disconnected` after NBD_CMD_DISC, `broken` in any other way. */
export type SessionEnd = 'disconnected' | 'broken'

/** The names that a server offers. `find('')` is the default export, if there is one. */
export interface ExportCatalog {
  /** Names for NBD_OPT_LIST, in order. */
  list(): readonly string[]
  find(name: string): Export | undefined
}

export interface Export {
  readonly name: string
  readonly description: string
  readonly sizeBytes: number
  readonly readOnly: boolean
  /** Metadata contexts that `blockStatus` answers, `base:allocation` among them. */
  readonly contexts: readonly string[]
  /**
   * Starts a session's use of the export; `client` is for messages ("127.0.0.1:40000", "unix"). `isElsewhere`: it is at
   * another host, and outlives this one. Throws NbdError if it may not be opened now.
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

/** One session's use of an export. Every method may throw, or reject with, an NbdError. Lengths and offsets are bytes. */
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
  /** Writes all of `source`; with `fua`, durably. `source` belongs to the handle until the promise settles. */
  write(offset: number, source: Uint8Array, fua: boolean): MaybePromise<void>
  trim(offset: number, lengthBytes: number, fua: boolean): MaybePromise<void>
  /** Zeroes the range. `mayPunch` false (NO_HOLE): the range stays allocated. `fast`: ENOTSUP rather than slow. */
  writeZeroes(offset: number, lengthBytes: number, options: ZeroOptions): MaybePromise<void>
  /** Resolves when every write that any session of the export completed before this call is durable. */
  flush(): MaybePromise<void>
  /** A prefetch (NBD_CMD_CACHE). */
  cache(offset: number, lengthBytes: number): MaybePromise<void>
  /** Extents of `context` from `offset` on; they cover at least 1 byte and at most `lengthBytes`, at most `limit` of them. */
  blockStatus(
    context: string,
    offset: number,
    lengthBytes: number,
    limit: number,
  ): MaybePromise<readonly StatusExtent[]>
  /** The client is known to be gone, or to send nothing more, while requests may be in flight: nobody waits for these. */
  hangUp?(): void
  /** The session is over. Called once; nothing is called after. */
  close(end: SessionEnd): void
}

export interface ZeroOptions {
  readonly mayPunch: boolean
  readonly fast: boolean
  readonly fua: boolean
}
