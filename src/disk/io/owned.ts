// Guest I/O on a disk whose every block is here: straight to the file.

import type { MaybePromise, PageTaker, StatusExtent, StatusKind, ZeroOptions } from '../../guest/export.ts'
import type { BlockFile } from '../../store/files.ts'
import type { SyncGroup } from '../sync/sync-group.ts'
import { zeroFile } from '../zero-file.ts'
import { fileAllocation, type GuestIo, guestError } from './guest-io.ts'

export class OwnedIo implements GuestIo {
  readonly #file: BlockFile
  readonly #syncs: SyncGroup

  constructor(file: BlockFile, syncs: SyncGroup) {
    this.#file = file
    this.#syncs = syncs
  }

  read(offset: number, target: Uint8Array): MaybePromise<void> {
    return this.#file.read(offset, target)
  }

  readPages(offset: number, lengthBytes: number, pipe: PageTaker): boolean {
    return this.#file.readPages?.(offset, lengthBytes, pipe) ?? false
  }

  takesAtOnce(offset: number, lengthBytes: number): boolean {
    return this.#file.takesAtOnce?.(offset, lengthBytes) ?? false
  }

  write(offset: number, source: Uint8Array, fua: boolean): MaybePromise<void> {
    if (this.#syncs.failure)
      throw guestError(this.#syncs.failure, 'an earlier sync failed, the disk takes no more writes')
    const written = this.#file.write(offset, source)
    if (written instanceof Promise) return fua ? written.then(() => this.flush()) : written
    return fua ? this.flush() : undefined
  }

  async trim(offset: number, lengthBytes: number, fua: boolean): Promise<void> {
    await this.writeZeroes(offset, lengthBytes, { mayPunch: true, fast: false, fua })
  }

  async writeZeroes(offset: number, lengthBytes: number, options: ZeroOptions): Promise<void> {
    if (this.#syncs.failure)
      throw guestError(this.#syncs.failure, 'an earlier sync failed, the disk takes no more writes')
    await zeroFile(this.#file, offset, lengthBytes, { allocated: !options.mayPunch, fast: options.fast })
    if (options.fua) await this.flush()
  }

  flush(): Promise<void> {
    return this.#syncs.flush()
  }

  cache(): void {}

  /** All is here, and no map tells any more what the guest changed: so every block counts as changed. */
  status(kind: StatusKind, offset: number, lengthBytes: number, limit: number): readonly StatusExtent[] {
    if (kind === 'allocation') return fileAllocation(this.#file, offset, lengthBytes, limit)
    return [{ lengthBytes, status: kind === 'present' ? 'present' : 'dirty' }]
  }
}
