// The files of a site on a Linux file system: made, opened, replaced and removed, so that their names are durable.

import { closeSync, constants, openSync, readFileSync } from 'node:fs'
import * as fs from 'node:fs/promises'
import { dirname } from 'node:path'
import { endOfFile } from '../system/linux.ts'
import { DirtyRoom } from './dirty-room.ts'
import type { BlockFile, Files, LogFile, PageFile } from './files.ts'
import { takeImageLocks } from './image-locks.ts'
import { KernelBlockFile } from './kernel-block-file.ts'
import { KernelLogFile } from './kernel-log-file.ts'
import { KernelPageFile } from './kernel-page-file.ts'
import { StoreError } from './store-error.ts'

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
      const sizeBytes = info.isBlockDevice() ? endOfFile(fd) : info.size
      return new KernelBlockFile(path, fd, sizeBytes, readOnly, this.#dirtyRoom)
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

  async openPages(path: string): Promise<PageFile> {
    return new KernelPageFile(path, openSync(path, constants.O_WRONLY))
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
