// A block file on a Linux file system. Reads that the page cache can answer, and aligned writes of guests while little is
// unsynced and nobody else changes the file, are done at once on the caller's turn; everything that may wait for the disk,
// and what nobody waits for, goes to the thread pool.
//
// On ext4 with large folios (Linux 6.16 and later) a small write walks every block of its folio: what long writes and the
// kernel's read-ahead bring into the page cache makes a guest's small writes slow. There, what the page cache lacks is
// written in short calls, and read page by page, with a read-ahead of our own. Measured on the file alone, thousands of 4 KiB
// writes a second: 140 after writes of 1 MiB and 70 after read-ahead of 8 MiB; 400 and 630 so. What it costs: a write of
// 1 MiB takes 82 µs onto folios of 64 KiB and 200 onto pages, not 56.
//
// What always holds: a file that was seen to be shorter than the disk is not used any more. A write behind its end would make
// it as long as before, with zeros where bytes were.

import assert from 'node:assert/strict'
import { fstatSync, read, readSync, statfsSync, write, writeSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { promisify } from 'node:util'
import type { Extent } from '../block/units.ts'
import { punchHole, readNothingAhead, readNoWait, seekData, seekHole, willNeed, zeroRange } from '../system/linux.ts'
import { PageCacheView } from '../system/page-cache.ts'
import { Descriptor } from './descriptor.ts'
import type { DirtyRoom } from './dirty-room.ts'
import type { BlockFile, MaybePromise, PageTaker } from './files.ts'
import { ReadAhead } from './read-ahead.ts'
import { StoreError } from './store-error.ts'

const readAsync = promisify(read)
const writeAsync = promisify(write)

/** Longest read or write done on the caller's turn: about half a millisecond of copying. */
const syncBoundBytes = 2 ** 20
/** EXT4_SUPER_MAGIC and TMPFS_MAGIC of <linux/magic.h>. */
const ext4Type = 0xef53
const tmpfsType = 0x01021994
/** "Far": a write may wait for a program or another machine, however little is dirty. From the same header, and their own. */
const farTypes = [
  ...[0x65735546, 0x6969, 0xff534d42, 0xfe534d42, 0x01021997, 0x00c36400], // FUSE, NFS, CIFS, SMB2, 9p, Ceph
  ...[0x01161970, 0x7461636f, 0x0bd00bd0, 0x786f4256], // GFS2, OCFS2, Lustre, vboxsf
]
/** Of ext4, XFS and Btrfs. Others may sync the file, or ask another machine, before they say where its data is. */
const seekableTypes = [ext4Type, 0x58465342, 0x9123683e, tmpfsType]
const pageBytes = 4096
/** What one call writes where a folio would get as long as the call: with 16 KiB a landing costs twice as much. */
const sliceBytes = 64 * 1024

export class KernelBlockFile implements BlockFile {
  readonly path: string
  readonly sizeBytes: number
  readonly #file: Descriptor
  readonly #dirtyRoom: DirtyRoom
  #canReadNoWait = true
  readonly #isInMemory: boolean
  readonly #isFar: boolean
  /** It says at once where its data is. */
  readonly #isSeekable: boolean
  /** undefined: nobody tells what the page cache has. */
  readonly #pageCache: PageCacheView | undefined
  /** undefined: the kernel reads ahead, and long folios cost nothing. */
  readonly #readAhead: ReadAhead | undefined
  /**
   * Zeroings, and writes that may wait, in the thread pool. The kernel has one change of a file at a time (and on XFS no
   * spliced read beside it): whoever came next on the caller's turn would wait for it, 60 ms for a gibibyte punched in memory.
   */
  #slowChanges = 0
  /** Writes in the thread pool that nobody waits for, and that the kernel will not brake. Each of their calls is over soon. */
  #backgroundWrites = 0
  #trouble: string | undefined

  constructor(path: string, fd: number, sizeBytes: number, readOnly: boolean, dirtyRoom: DirtyRoom) {
    this.path = path
    this.#file = new Descriptor(path, fd)
    this.#dirtyRoom = dirtyRoom
    this.sizeBytes = sizeBytes
    const { type } = statfsSync(path)
    this.#isInMemory = type === tmpfsType
    this.#isFar = farTypes.includes(type)
    this.#isSeekable = seekableTypes.includes(type)
    // Whoever may only read a file hears from the kernel that all of it is cached; far away, cached pages may be checked again.
    this.#pageCache = readOnly || this.#isFar ? undefined : viewOf(fd, sizeBytes)
    if (type !== ext4Type || this.#pageCache === undefined) return
    readNothingAhead(fd)
    this.#readAhead = new ReadAhead(this.#pageCache, sizeBytes)
  }

  get trouble(): string | undefined {
    return this.#trouble
  }

  read(offset: number, target: Uint8Array): MaybePromise<void> {
    this.#mustBeUsable()
    if (target.length > syncBoundBytes) return this.#readRest(offset, target, 0)
    if (this.#canReadNoWait) {
      const count = readNoWait(this.#file.now, target, offset)
      if (count === target.length) return
      if (count !== -2) return this.#readRest(offset, target, Math.max(count, 0))
      this.#canReadNoWait = false
    }
    if (!this.#isInMemory) return this.#readRest(offset, target, 0) // NFS, FUSE …: nobody can tell whether it would wait.
    const count = readSync(this.#file.now, target, 0, target.length, offset)
    if (count < target.length) return this.#readRest(offset, target, count)
  }

  readPages(offset: number, lengthBytes: number, pipe: PageTaker): boolean {
    // Looked at first: splice(2) waits for what is not there. (What is thrown out between the two calls is
    // waited for; and a page that carries the mark has the next ones asked for, which a full queue of a hung disk may delay.)
    if (this.#trouble !== undefined || this.#slowChanges > 0 || !this.#pageCache?.has(offset, lengthBytes)) return false
    if (this.#backgroundWrites > 0 && this.#readAhead === undefined) return false // On ext4 no read waits for a write.
    if (pipe.takeFrom(this.#file.now, offset, lengthBytes) === lengthBytes) return true
    pipe.discard()
    return false
  }

  async #readRest(offset: number, target: Uint8Array, done: number): Promise<void> {
    this.#askAhead(offset, target.length)
    for (let at = done; at < target.length; ) {
      const { bytesRead } = await this.#file.use((fd) => readAsync(fd, target, at, target.length - at, offset + at))
      if (bytesRead === 0) throw this.#isShort(`it ends before ${offset + at}`)
      at += bytesRead
    }
  }

  #askAhead(offset: number, lengthBytes: number): void {
    const range = this.#readAhead?.after(offset, lengthBytes)
    if (range === undefined || this.#file.isClosed) return
    // Nobody waits for it, and what cannot be read is told to whoever reads it.
    this.#file.use((fd) => willNeed(fd, range.offset, range.lengthBytes)).catch(() => {})
  }

  takesAtOnce(offset: number, lengthBytes: number): boolean {
    return this.#slowChanges + this.#backgroundWrites === 0 && this.#isQuickWrite(offset, lengthBytes)
  }

  /** Aligned, so that no page must be read first; short; near; and with room for dirty pages, so that the kernel does not brake. */
  #isQuickWrite(offset: number, lengthBytes: number): boolean {
    const aligned = offset % pageBytes === 0 && lengthBytes % pageBytes === 0
    return aligned && lengthBytes <= syncBoundBytes && !this.#isFar && this.#dirtyRoom.has(lengthBytes)
  }

  write(offset: number, source: Uint8Array, urgency?: 'demand' | 'background'): MaybePromise<void> {
    this.#mustBeUsable()
    const isQuick = this.#isQuickWrite(offset, source.length)
    this.#dirtyRoom.take(source.length)
    if (!isQuick) return this.#changeSlowly(() => this.#writeRest(offset, source, 0))
    if (urgency === 'background') return this.#writeInBackground(offset, source)
    if (this.#slowChanges + this.#backgroundWrites > 0) return this.#writeRest(offset, source, 0)
    const startedMs = performance.now()
    this.#dirtyRoom.begins(startedMs)
    const mostBytes = this.#callBytes(offset, source.length)
    for (let at = 0; at < source.length; ) {
      at += writeSync(this.#file.now, source, at, Math.min(mostBytes, source.length - at), offset + at)
    }
    this.#dirtyRoom.wrote(performance.now() - startedMs)
  }

  /** To copy what came over a link took a quarter of the loop's time, which guests of other disks waited for. */
  async #writeInBackground(offset: number, source: Uint8Array): Promise<void> {
    this.#backgroundWrites++
    try {
      await this.#writeRest(offset, source, 0)
    } finally {
      this.#backgroundWrites--
    }
  }

  async #writeRest(offset: number, source: Uint8Array, done: number): Promise<void> {
    const mostBytes = this.#callBytes(offset, source.length)
    for (let at = done; at < source.length; ) {
      const length = Math.min(mostBytes, source.length - at)
      const { bytesWritten } = await this.#file.use((fd) => writeAsync(fd, source, at, length, offset + at))
      assert(bytesWritten > 0)
      at += bytesWritten
    }
  }

  /**
   * The most that one call of a write has. What is cached keeps its folios, whatever is written onto it: its ends are looked
   * at, for to look at each page of 1 MiB takes 14 µs, a fourth of what the write takes.
   */
  #callBytes(offset: number, lengthBytes: number): number {
    if (lengthBytes <= sliceBytes || this.#readAhead === undefined) return lengthBytes
    const areEndsCached = this.#pageCache?.has(offset, 1) && this.#pageCache.has(offset + lengthBytes - 1, 1)
    return areEndsCached ? lengthBytes : sliceBytes
  }

  async #changeSlowly(change: () => Promise<void>): Promise<void> {
    this.#slowChanges++
    try {
      await change()
    } finally {
      this.#slowChanges--
    }
  }

  zero(offset: number, lengthBytes: number, allocated: boolean, fast = false): Promise<void> {
    return this.#changeSlowly(() => this.#zero(offset, lengthBytes, allocated, fast))
  }

  async #zero(offset: number, lengthBytes: number, allocated: boolean, fast: boolean): Promise<void> {
    this.#mustBeUsable()
    try {
      await this.#file.use((fd) => (allocated ? zeroRange : punchHole)(fd, offset, lengthBytes))
    } catch (error) {
      if (fast || (error as NodeJS.ErrnoException).code !== 'ENOTSUP') throw error
      await this.#writeZeros(offset, lengthBytes) // A file system without these calls.
    }
  }

  async #writeZeros(offset: number, lengthBytes: number): Promise<void> {
    const zeros = new Uint8Array(Math.min(lengthBytes, syncBoundBytes))
    for (let at = 0; at < lengthBytes; at += zeros.length) {
      await this.#writeRest(offset + at, zeros.subarray(0, Math.min(zeros.length, lengthBytes - at)), 0)
    }
  }

  isHole(offset: number, lengthBytes: number): boolean {
    // The kernel looks only when nobody changes the file: one call of a write that is not braked is waited for.
    const mayBrake = this.#backgroundWrites > 0 && !this.#dirtyRoom.has(sliceBytes)
    if (this.#slowChanges > 0 || mayBrake || !this.#isSeekable) return false
    const data = seekData(this.#file.now, offset)
    if (data === undefined) this.#mustBeWhole()
    return data === undefined || data >= offset + lengthBytes
  }

  async sync(): Promise<void> {
    // Far away the kernel writes out all that is dirty before it says how large the file is.
    if (this.#isFar) this.#checkSize(await this.#file.size())
    else this.#mustBeWhole()
    await this.#file.sync()
  }

  extents(offset: number, lengthBytes: number, limit: number): Extent[] {
    this.#mustBeUsable()
    const extents: Extent[] = []
    const end = offset + lengthBytes
    for (let at = offset; at < end && extents.length < limit; ) {
      const next = seekData(this.#file.now, at)
      if (next === undefined) this.#mustBeWhole()
      const data = Math.min(next ?? end, end)
      if (data > at) {
        extents.push({ offset: at, length: data - at, data: false })
        at = data
        continue
      }
      const hole = Math.min(seekHole(this.#file.now, at) ?? end, end)
      if (hole === at) continue // A hole was punched in between: look again.
      extents.push({ offset: at, length: hole - at, data: true })
      at = hole
    }
    return extents
  }

  allocatedBytes(): number {
    return fstatSync(this.#file.now).blocks * 512
  }

  /** What lies behind the end of a file that was made shorter is no hole. */
  #mustBeWhole(): void {
    this.#mustBeUsable()
    if (this.#file.isClosed) return // Its sync says so.
    this.#checkSize(fstatSync(this.#file.now).size)
  }

  #checkSize(size: number): void {
    this.#mustBeUsable()
    if (size < this.sizeBytes) throw this.#isShort(`it ends at ${size}`)
  }

  #isShort(where: string): StoreError {
    this.#trouble ??= `its file ${this.path} was made shorter while it was in use: ${where}, not at ${this.sizeBytes}`
    return new StoreError('short-file', this.#trouble)
  }

  #mustBeUsable(): void {
    if (this.#trouble !== undefined) throw new StoreError('short-file', this.#trouble)
  }

  close(): Promise<void> {
    this.#pageCache?.close() // A mapping holds the file, and with it its locks.
    return this.#file.close()
  }
}

function viewOf(fd: number, sizeBytes: number): PageCacheView | undefined {
  if (sizeBytes === 0) return undefined
  try {
    return new PageCacheView(fd, sizeBytes)
  } catch {
    return undefined // A file system whose files cannot be mapped.
  }
}
