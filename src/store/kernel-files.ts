// The files of a site on a Linux file system. Reads that the page cache can answer, and aligned writes while little is
// unsynced, are done at once on the caller's turn; everything that may wait for the disk goes to the thread pool.

import assert from 'node:assert/strict'
import {
  closeSync,
  constants,
  fdatasync,
  fstatSync,
  ftruncateSync,
  openSync,
  read,
  readFileSync,
  readSync,
  statfsSync,
  write,
  writeSync,
} from 'node:fs'
import * as fs from 'node:fs/promises'
import { dirname } from 'node:path'
import { performance } from 'node:perf_hooks'
import { promisify } from 'node:util'
import { isRangeLocked, lockRange, punchHole, readNoWait, seekData, seekHole, zeroRange } from '../system/linux.ts'
import { Descriptor } from './descriptor.ts'
import { DirtyRoom } from './dirty-room.ts'
import { type BlockFile, FailedSync, type FileExtent, type Files, type LogFile, type MaybePromise } from './files.ts'
import { StoreError } from './store-error.ts'

const readAsync = promisify(read)
const writeAsync = promisify(write)
const fdatasyncAsync = promisify(fdatasync)

/** Longest read or write done on the caller's turn: about half a millisecond of copying. */
const syncBoundBytes = 2 ** 20
/** TMPFS_MAGIC of <linux/magic.h>. */
const tmpfsType = 0x01021994
const pageBytes = 4096

export class KernelFiles implements Files {
  readonly bootId: string
  /** Of the machine: all block files share it. */
  readonly #dirtyRoom: DirtyRoom

  constructor(
    bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    dirtyRoom: DirtyRoom = new DirtyRoom(),
  ) {
    this.bootId = bootId
    this.#dirtyRoom = dirtyRoom
  }

  async createBlockFile(path: string, sizeBytes: number): Promise<BlockFile> {
    const folder = dirname(path)
    await fs.mkdir(folder, { recursive: true, mode: 0o700 })
    await syncFolder(dirname(folder))
    const handle = await fs.open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600)
    try {
      await handle.truncate(sizeBytes)
      await handle.sync()
    } catch (error) {
      throw tooLarge(error, path, sizeBytes)
    } finally {
      await handle.close()
    }
    await syncFolder(folder)
    return this.openBlockFile(path, false)
  }

  async openBlockFile(path: string, readOnly: boolean): Promise<BlockFile> {
    const fd = openSync(path, readOnly ? constants.O_RDONLY : constants.O_RDWR)
    try {
      const info = await fs.stat(path)
      takeImageLocks(fd, path, readOnly)
      return new KernelBlockFile(path, fd, info.size, this.#dirtyRoom)
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  async readFile(path: string): Promise<Uint8Array | undefined> {
    try {
      return await fs.readFile(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
  }

  async replaceLog(path: string, bytes: Uint8Array): Promise<LogFile> {
    const fresh = `${path}.new`
    const handle = await fs.open(fresh, 'w', 0o600)
    try {
      await handle.writeFile(bytes)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await fs.rename(fresh, path)
    await syncFolder(dirname(path))
    return new KernelLogFile(path, openSync(path, constants.O_WRONLY | constants.O_APPEND))
  }

  async rename(from: string, to: string): Promise<void> {
    await fs.rename(from, to)
    await syncFolder(dirname(to))
  }

  async remove(path: string): Promise<void> {
    await fs.rm(path, { recursive: true, force: true })
    await syncFolder(dirname(path)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
    })
  }
}

async function synced(fd: number, path: string): Promise<void> {
  try {
    await fdatasyncAsync(fd)
  } catch (error) {
    throw new FailedSync(path, error)
  }
}

function tooLarge(error: unknown, path: string, sizeBytes: number): unknown {
  const { code } = error as NodeJS.ErrnoException
  if (code !== 'EFBIG' && code !== 'EINVAL') return error
  const message = `the file system of ${dirname(path)} cannot hold a file of ${sizeBytes} bytes`
  return new StoreError('too-large', message, { cause: error, next: 'Use a data folder on another file system.' })
}

/** Makes the names in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await fs.open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

// QEMU's image locks (block/file-posix.c): byte 100 + p is held by whoever uses permission p, byte 200 + p by whoever does
// not share it. Holding them as a running QEMU does, QEMU and its tools refuse to open the file beside us, and we them.
const usedBase = 100
const unsharedBase = 200
const permission = { consistentRead: 0, write: 1, resize: 3 } as const

function takeImageLocks(fd: number, path: string, readOnly: boolean): void {
  const used = readOnly ? [permission.consistentRead] : [permission.consistentRead, permission.write, permission.resize]
  const unshared = [permission.write, permission.resize]
  // First taken, then looked at: of two that start at once, at least one sees the other. Own locks do not show.
  const taken =
    used.every((bit) => lockRange(fd, usedBase + bit, 1, 'shared')) &&
    unshared.every((bit) => lockRange(fd, unsharedBase + bit, 1, 'shared'))
  const conflict =
    used.some((bit) => isRangeLocked(fd, unsharedBase + bit, 1)) ||
    unshared.some((bit) => isRangeLocked(fd, usedBase + bit, 1))
  if (taken && !conflict) return
  throw new StoreError('in-use', `${path} is open in another program (QEMU, or another vmstore)`, {
    next: 'Stop the program that has it open, then try again.',
  })
}

class KernelBlockFile implements BlockFile {
  readonly path: string
  readonly sizeBytes: number
  readonly #file: Descriptor
  readonly #dirtyRoom: DirtyRoom
  #canReadNoWait = true
  readonly #isInMemory: boolean

  constructor(path: string, fd: number, sizeBytes: number, dirtyRoom: DirtyRoom) {
    this.path = path
    this.#file = new Descriptor(path, fd)
    this.#dirtyRoom = dirtyRoom
    this.sizeBytes = sizeBytes
    this.#isInMemory = statfsSync(path).type === tmpfsType
  }

  read(offset: number, target: Uint8Array): MaybePromise<void> {
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

  async #readRest(offset: number, target: Uint8Array, done: number): Promise<void> {
    for (let at = done; at < target.length; ) {
      const { bytesRead } = await this.#file.use((fd) => readAsync(fd, target, at, target.length - at, offset + at))
      if (bytesRead === 0)
        throw new StoreError('short-file', `${this.path} ends before ${offset + at}: it was made shorter`)
      at += bytesRead
    }
  }

  /** Aligned, so that no page must be read first; short; and with room for dirty pages, so that the kernel does not brake. */
  takesAtOnce(offset: number, lengthBytes: number): boolean {
    const aligned = offset % pageBytes === 0 && lengthBytes % pageBytes === 0
    return aligned && lengthBytes <= syncBoundBytes && this.#dirtyRoom.has(lengthBytes)
  }

  write(offset: number, source: Uint8Array): MaybePromise<void> {
    const atOnce = this.takesAtOnce(offset, source.length)
    this.#dirtyRoom.take(source.length)
    if (!atOnce) return this.#writeRest(offset, source, 0)
    const startedMs = performance.now()
    for (let at = 0; at < source.length; ) {
      at += writeSync(this.#file.now, source, at, source.length - at, offset + at)
    }
    this.#dirtyRoom.wrote(performance.now() - startedMs)
  }

  async #writeRest(offset: number, source: Uint8Array, done: number): Promise<void> {
    for (let at = done; at < source.length; ) {
      const { bytesWritten } = await this.#file.use((fd) => writeAsync(fd, source, at, source.length - at, offset + at))
      assert(bytesWritten > 0)
      at += bytesWritten
    }
  }

  async zero(offset: number, lengthBytes: number, allocated: boolean, fast = false): Promise<void> {
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

  sync(): Promise<void> {
    return this.#file.use((fd) => synced(fd, this.path))
  }

  extents(offset: number, lengthBytes: number, limit: number): FileExtent[] {
    const extents: FileExtent[] = []
    const end = offset + lengthBytes
    for (let at = offset; at < end && extents.length < limit; ) {
      const next = seekData(this.#file.now, at)
      if (next === undefined) this.#mustBeWhole()
      const data = Math.min(next ?? end, end)
      if (data > at) {
        extents.push({ offset: at, length: data - at, kind: 'hole' })
        at = data
        continue
      }
      const hole = Math.min(seekHole(this.#file.now, at) ?? end, end)
      if (hole === at) continue // A hole was punched in between: look again.
      extents.push({ offset: at, length: hole - at, kind: 'data' })
      at = hole
    }
    return extents
  }

  allocatedBytes(): number {
    return fstatSync(this.#file.now).blocks * 512
  }

  /** What lies behind the end of a file that was made shorter is no hole. */
  #mustBeWhole(): void {
    const { size } = fstatSync(this.#file.now)
    if (size < this.sizeBytes) throw new StoreError('short-file', `${this.path} ends at ${size}: it was made shorter`)
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

class KernelLogFile implements LogFile {
  readonly #path: string
  readonly #file: Descriptor
  #lengthBytes: number
  #torn = false

  constructor(path: string, fd: number) {
    this.#path = path
    this.#file = new Descriptor(path, fd)
    this.#lengthBytes = fstatSync(fd).size
  }

  append(bytes: Uint8Array): void {
    if (this.#file.isClosed) throw new StoreError('closed', `${this.#path} is closed`)
    if (this.#torn) this.#mend()
    let count = 0
    try {
      count = writeSync(this.#file.now, bytes, 0, bytes.length)
    } finally {
      this.#torn = count !== 0 && count !== bytes.length
      if (count === bytes.length) this.#lengthBytes += count
    }
    if (count === bytes.length) return
    if (this.#torn) this.#mend()
    throw new StoreError(
      'no-space',
      `a map record was cut at ${count} of ${bytes.length} bytes: the file system is full`,
    )
  }

  /** Cuts off half a record: what came after it could never be read. While this fails, nothing is appended. */
  #mend(): void {
    ftruncateSync(this.#file.now, this.#lengthBytes)
    this.#torn = false
  }

  sync(): Promise<void> {
    return this.#file.use((fd) => synced(fd, this.#path))
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}
