// What a guest's request does in one state of a disk: a class a state, swapped whole when the disk moves on. The caller has
// validated the range (guest/export.ts) and counted the request at the gate.

import {
  GuestError,
  type GuestErrorCode,
  type MaybePromise,
  type PageTaker,
  type StatusExtent,
  type StatusKind,
  type ZeroOptions,
} from '../../guest/export.ts'
import type { BlockFile } from '../../store/files.ts'
import { isNoSpace } from '../room.ts'

export interface GuestIo {
  read(offset: number, target: Uint8Array, signal: AbortSignal): MaybePromise<void>
  /** What read() would answer with at once, by reference. Without this method, none is. */
  readPages?(offset: number, lengthBytes: number, pipe: PageTaker): boolean
  /** Whether write() of this range without FUA, called in the same step, would answer at once. */
  takesAtOnce(offset: number, lengthBytes: number): boolean
  write(offset: number, source: Uint8Array, fua: boolean, signal: AbortSignal): MaybePromise<void>
  trim(offset: number, lengthBytes: number, fua: boolean, signal: AbortSignal): MaybePromise<void>
  writeZeroes(offset: number, lengthBytes: number, options: ZeroOptions, signal: AbortSignal): MaybePromise<void>
  flush(signal: AbortSignal): MaybePromise<void>
  cache(offset: number, lengthBytes: number, signal: AbortSignal): MaybePromise<void>
  /** Extents of that kind from `offset` on: one at least, at most `limit`, of the whole range or less. */
  status(kind: StatusKind, offset: number, lengthBytes: number, limit: number): MaybePromise<readonly StatusExtent[]>
}

/** The allocation of a range whose bytes are all here. */
export function fileAllocation(file: BlockFile, offset: number, lengthBytes: number, limit: number): StatusExtent[] {
  return file.extents(offset, lengthBytes, limit).map(({ length, data }) => ({
    lengthBytes: length,
    status: data ? 'data' : 'hole',
  }))
}

/** The error that a guest is told for what the file system threw. */
export function guestError(error: unknown, what: string): GuestError {
  if (error instanceof GuestError) return error
  return new GuestError(codeOf(error), `${what}: ${(error as Error)?.message ?? String(error)}`, { cause: error })
}

function codeOf(error: unknown): GuestErrorCode {
  if (isNoSpace(error)) return 'no-space'
  // A zeroing that had to be fast, on a file system that cannot.
  return (error as NodeJS.ErrnoException | undefined)?.code === 'ENOTSUP' ? 'unsupported' : 'io'
}
