// An image file as it lies on this host: opened for looking at, and known again, so that one that changes while it is
// copied is found out.

import { constants } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { Refusal } from '../disk/refusal.ts'
import type { ImageBytes } from '../image/image-bytes.ts'
import { endOfFile } from '../system/linux.ts'
import { notRaw } from './image-refusals.ts'

/** Same stamp, same bytes, as far as a file system tells; of a block device nothing does. */
export interface FileStamp {
  readonly sizeBytes: number
  readonly modifiedNs: bigint
  readonly fileId: string
}

export interface ImageFile {
  readonly bytes: ImageBytes
  /** What it takes on its file system; of a block device nobody knows. */
  readonly allocatedBytes: number
  readonly isDevice: boolean
  readonly stamp: FileStamp
}

/** A regular file or a block device that is not empty. @throws Refusal `not-raw`, `image-unknown` */
export async function withImageFile<T>(
  path: string,
  signal: AbortSignal,
  look: (file: ImageFile) => Promise<T>,
): Promise<T> {
  try {
    const named = await stat(path)
    // Before it is opened: a pipe would be waited for.
    if (!named.isFile() && !named.isBlockDevice()) throw notRaw(path, `it is ${kindOf(named)}`)
    const handle = await openAtRest(path, named.isBlockDevice())
    try {
      const info = await handle.stat({ bigint: true })
      const sizeBytes = info.isBlockDevice() ? endOfFile(handle.fd) : Number(info.size)
      if (sizeBytes === 0) throw notRaw(path, 'it is empty')
      return await look({
        bytes: bytesOf(handle, sizeBytes, signal),
        allocatedBytes: info.isBlockDevice() ? 0 : Number(info.blocks) * 512,
        isDevice: info.isBlockDevice(),
        stamp: { sizeBytes, modifiedNs: info.mtimeNs, fileId: `${info.dev}:${info.ino}` },
      })
    } finally {
      await handle.close()
    }
  } catch (error) {
    throw isOfFileSystem(error) ? unseen(path, error) : error
  }
}

/** A block device that is mounted, or is part of another, is not at rest. */
async function openAtRest(path: string, isDevice: boolean): Promise<FileHandle> {
  try {
    return await open(path, isDevice ? constants.O_RDONLY | constants.O_EXCL : constants.O_RDONLY)
  } catch (error) {
    if (!isDevice || (error as NodeJS.ErrnoException).code !== 'EBUSY') throw error
    throw new Refusal('in-use', `${path} is in use: it is mounted, or another device is made of it`, {
      safe: 'Nothing was changed.',
      next: 'Unmount it, or take what is made of it down (lsblk shows it); or name a snapshot of it.',
      cause: error,
    })
  }
}

/** After a copy, or one that failed. @throws Refusal `source-changed` */
export async function mustBeUnchanged(path: string, before: FileStamp): Promise<void> {
  const info = await stat(path, { bigint: true }).catch(() => undefined)
  if (info === undefined) throw changed(path, 'it is gone')
  if (`${info.dev}:${info.ino}` !== before.fileId) throw changed(path, 'another file has taken its place')
  if (info.isBlockDevice()) return
  if (Number(info.size) !== before.sizeBytes) {
    throw changed(path, `it had ${before.sizeBytes} bytes, and has ${info.size}`)
  }
  if (info.mtimeNs !== before.modifiedNs) throw changed(path, 'it was written to')
}

function bytesOf(handle: FileHandle, sizeBytes: number, signal: AbortSignal): ImageBytes {
  return {
    sizeBytes,
    async read(at, lengthBytes) {
      signal.throwIfAborted()
      const target = Buffer.alloc(Math.max(0, Math.min(lengthBytes, sizeBytes - at)))
      let done = 0
      while (done < target.length) {
        const { bytesRead } = await handle.read(target, done, target.length - done, at + done)
        if (bytesRead === 0) break
        done += bytesRead
      }
      return target.subarray(0, done)
    },
  }
}

function kindOf(info: { isDirectory(): boolean; isFIFO(): boolean; isSocket(): boolean }): string {
  if (info.isDirectory()) return 'a folder; name the image in it'
  if (info.isFIFO()) return 'a pipe'
  return info.isSocket() ? 'a socket' : 'a device of characters'
}

const isOfFileSystem = (error: unknown): error is NodeJS.ErrnoException =>
  (error as NodeJS.ErrnoException).syscall !== undefined

function unseen(path: string, error: NodeJS.ErrnoException): Refusal {
  const user = userInfo().username
  const [message, next] =
    error.code === 'ENOENT' || error.code === 'ENOTDIR'
      ? [`there is no file ${path} where the daemon looks`, 'See that the path is right, on the host of the daemon.']
      : error.code === 'EACCES' || error.code === 'EPERM'
        ? [
            `the daemon, which runs as user ${user}, may not read ${path}`,
            'Give it the right to read the file and to pass its folders, or put the file where it has.',
          ]
        : [`${path} cannot be read: ${error.message}`, undefined]
  const facts = { safe: 'Nothing was changed.', cause: error, ...(next !== undefined && { next }) }
  return new Refusal('image-unknown', message, facts)
}

function changed(path: string, how: string): Refusal {
  return new Refusal('source-changed', `${path} changed during the copy: ${how}`, {
    exit: 1,
    safe: 'No disk was made, and nothing of it was left.',
    next: 'Wait until it is whole and nobody writes to it, and copy it again.',
  })
}
