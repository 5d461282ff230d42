// Guest I/O on a disk that is copied while its guest goes on: that of an owned one, of which each write is known before it
// begins.
//
// What always holds: WRITE, TRIM and WRITE_ZEROES are told before the first byte changes, and stay under way until the last one
// has, however they end.

import type { MaybePromise, ZeroOptions } from '../../guest/export.ts'
import type { BlockFile } from '../../store/files.ts'
import type { SyncGroup } from '../sync/sync-group.ts'
import { OwnedIo } from './owned.ts'

/** Who wants to know of guests' writes. */
export interface WriteWatch {
  /** A write of this range begins in this step. Throws when it may not. */
  begins(offset: number, lengthBytes: number): void
  /** It does not end in the step in which it began, but when this is disposed. */
  underWay(offset: number, lengthBytes: number): Disposable
}

export class TrackedIo extends OwnedIo {
  readonly #watch: WriteWatch

  constructor(file: BlockFile, syncs: SyncGroup, watch: WriteWatch) {
    super(file, syncs)
    this.#watch = watch
  }

  override write(offset: number, source: Uint8Array, fua: boolean): MaybePromise<void> {
    this.#watch.begins(offset, source.length)
    const written = super.write(offset, source, fua)
    return written instanceof Promise ? this.#until(written, offset, source.length) : written
  }

  /** A trim is one too. */
  override async writeZeroes(offset: number, lengthBytes: number, options: ZeroOptions): Promise<void> {
    this.#watch.begins(offset, lengthBytes)
    await this.#until(super.writeZeroes(offset, lengthBytes, options), offset, lengthBytes)
  }

  async #until(written: Promise<void>, offset: number, lengthBytes: number): Promise<void> {
    using _underWay = this.#watch.underWay(offset, lengthBytes)
    await written
  }
}
