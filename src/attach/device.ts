// One /dev/nbdN as this host sees it: what the kernel says of it in sysfs, whether anybody uses it, and the lock by which
// only one process cares for it. Always: who holds the device (hold) keeps it from being mounted until it is let go.

import { closeSync, constants, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { type FileHandle, open, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { lockRange } from '../system/linux.ts'

const sectorBytes = 512
const namePattern = /^(?:\/dev\/)?nbd(0|[1-9]\d{0,5})$/

export interface DeviceFacts {
  /** It has connections, dead or alive. */
  readonly isAttached: boolean
  /** The text that it was made with; undefined: none, or a kernel before 5.14. */
  readonly backend: string | undefined
  readonly sizeBytes: number
}

/** Nobody else has the device open exclusively, such as a file system that is mounted from it. */
export interface HeldDevice {
  /** What was written is with the server, durably. @throws ErrnoException */
  flush(): Promise<void>
  close(): Promise<void>
}

/** What the rest needs of a device. */
export interface Device {
  readonly index: number
  /** Such as /dev/nbd0. */
  readonly path: string
  /** undefined: there is no such device. */
  facts(): Promise<DeviceFacts | undefined>
  /** How long a request may be under way before the kernel looks after it. false: the kernel does not let it be changed. */
  lookAfterRequests(everyMs: number): Promise<boolean>
  /** undefined: it is in use. @throws ErrnoException */
  hold(): Promise<HeldDevice | undefined>
}

/** The number in /dev/nbdN; undefined: that is no such path. */
export function indexOf(path: string): number | undefined {
  const digits = namePattern.exec(path)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

export class KernelDevice implements Device {
  readonly index: number
  readonly path: string
  readonly #sysfs: string

  constructor(index: number, sysfs = '/sys') {
    this.index = index
    this.path = `/dev/nbd${index}`
    this.#sysfs = join(sysfs, 'block', `nbd${index}`)
  }

  async facts(): Promise<DeviceFacts | undefined> {
    const size = await this.#read('size')
    if (size === undefined) return undefined
    // The kernel shows the file as long as the device has connections.
    const [pid, backend] = await Promise.all([this.#read('pid'), this.#read('backend')])
    return { isAttached: pid !== undefined, backend: backend || undefined, sizeBytes: Number(size) * sectorBytes }
  }

  async lookAfterRequests(everyMs: number): Promise<boolean> {
    try {
      await writeFile(join(this.#sysfs, 'queue/io_timeout'), String(everyMs))
      return true
    } catch {
      return false // Such as a sysfs that is read-only.
    }
  }

  async hold(): Promise<HeldDevice | undefined> {
    let handle: FileHandle
    try {
      handle = await this.#openExclusive()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EBUSY') return undefined
      throw error
    }
    return { flush: () => handle.sync(), close: () => handle.close() }
  }

  /** Of a block device, O_EXCL without O_CREAT means: while no file system, swap or other device has it. */
  async #openExclusive(): Promise<FileHandle> {
    try {
      return await open(this.path, constants.O_RDWR | constants.O_EXCL)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'EROFS' && code !== 'EACCES') throw error
      return open(this.path, constants.O_RDONLY | constants.O_EXCL)
    }
  }

  async #read(name: string): Promise<string | undefined> {
    try {
      return (await readFile(join(this.#sysfs, name), 'utf8')).trim()
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      // A file that goes while it is opened says ENODEV.
      if (code === 'ENOENT' || code === 'ENODEV') return undefined
      throw error
    }
  }
}

/** The right of one process to care for a device, until it ends in any way. */
export class DeviceLock {
  readonly #fd: number

  private constructor(fd: number) {
    this.#fd = fd
  }

  /** The process that has it, or the lock. @throws ErrnoException */
  static take(index: number, folder: string): DeviceLock | { readonly holder: string } {
    const path = join(folder, `vmstore-nbd${index}.lock`)
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
    if (!lockRange(fd, 0, 1, 'exclusive')) {
      closeSync(fd)
      return { holder: readFileSync(path, 'utf8').trim() || 'unknown' }
    }
    ftruncateSync(fd, 0)
    writeSync(fd, `${process.pid}\n`)
    return new DeviceLock(fd)
  }

  release(): void {
    closeSync(this.#fd)
  }
}
