// The files that a site's disks are made of, as an interface, so that the crash model can stand in for the kernel:
// what was written but not synced survives the death of the process, and may be lost, in any part, with the power.

import type { Extent } from '../block/units.ts'

export type MaybePromise<T> = T | Promise<T>

/** A sync failed: the kernel may have dropped what was written, and would report success the next time. Final for a file. */
export class FailedSync extends Error {
  constructor(path: string, cause: unknown) {
    super(`a sync of ${path} failed: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
    this.name = 'FailedSync'
  }
}

/** Takes pages of a file by reference (system/page-pipe.ts). */
export interface PageTaker {
  /** The number of bytes taken; fewer than asked for when the file cannot give them. */
  takeFrom(fd: number, offset: number, lengthBytes: number): number
  /** Gives up all that was taken. */
  discard(): void
}

/** The bytes of one disk: raw, sparse, of fixed size. Offsets and lengths are bytes within the size. */
export interface BlockFile {
  readonly path: string
  readonly sizeBytes: number
  /** The file was made shorter under us: what is wrong with it, as a sentence's end. It is neither read nor written any more. */
  readonly trouble?: string | undefined
  /** Fills `target`. Answers at once when the bytes are at hand. */
  read(offset: number, target: Uint8Array): MaybePromise<void>
  /**
   * What read() would answer with at once, given to `pipe` by reference: true. false: nothing is in the pipe. A write that
   * comes before the bytes are used may change them. Without this method, none are given.
   */
  readPages?(offset: number, lengthBytes: number, pipe: PageTaker): boolean
  /** Whether write() of this range, called in the same step, would answer at once. Without this method, nobody knows. */
  takesAtOnce?(offset: number, lengthBytes: number): boolean
  /**
   * Writes all of `source`. Answered: the bytes are with the kernel, and survive this process. `background`: no guest waits
   * for it, and it takes nothing of the caller's turn.
   */
  write(offset: number, source: Uint8Array, urgency?: 'demand' | 'background'): MaybePromise<void>
  /**
   * Makes the range read as zeros; `allocated`: keeps it allocated, else punches a hole. `fast`: where the file system
   * would have zeros written out, it throws ENOTSUP instead, and nothing was changed.
   */
  zero(offset: number, lengthBytes: number, allocated: boolean, fast?: boolean): Promise<void>
  /** Whether the range surely is a hole. Answered at once. Without this method, nobody knows. */
  isHole?(offset: number, lengthBytes: number): boolean
  /** Everything that was written before the call is durable (fdatasync). Rejects with FailedSync. */
  sync(): Promise<void>
  /** At least one extent from `offset` on, in order, at most `limit`, within `lengthBytes`. */
  extents(offset: number, lengthBytes: number, limit: number): Extent[]
  allocatedBytes(): number
  close(): Promise<void>
}

/** An append-only file. */
export interface LogFile {
  /** Appends at once: when it returns, the bytes are with the kernel. Throws when they are not. */
  append(bytes: Uint8Array): void
  /** Rejects with FailedSync. */
  sync(): Promise<void>
  close(): Promise<void>
}

/** A file that is written in place, in whole pages of 4 KiB. */
export interface PageFile {
  /** Writes at once: when it returns, the bytes are with the kernel. Throws when they are not. */
  write(offset: number, bytes: Uint8Array): void
  /** Rejects with FailedSync. */
  sync(): Promise<void>
  close(): Promise<void>
}

export interface Files {
  /** Changes at every start of the machine: what was written under another boot id and not synced may be gone. */
  readonly bootId: string
  /** Creates a block file of holes and makes its name durable. Fails when there is one. */
  createBlockFile(path: string, sizeBytes: number): Promise<BlockFile>
  openBlockFile(path: string, readOnly: boolean): Promise<BlockFile>
  /** undefined: no such file. */
  readFile(path: string): Promise<Uint8Array | undefined>
  /** Puts `bytes` durably in the place of whatever `path` had, in one step, and opens it for appending. */
  replaceLog(path: string, bytes: Uint8Array): Promise<LogFile>
  /** Opens a file that is there, to be written in place. */
  openPages(path: string): Promise<PageFile>
  /** Gives a folder another name in the same folder, durably. */
  rename(from: string, to: string): Promise<void>
  /** Removes a folder or file with all that is in it, durably. Missing is fine. */
  remove(path: string): Promise<void>
}
