// How much room the data folder has, and what a new disk must leave of it to the others.

import { stat, statfs } from 'node:fs/promises'
import { Refusal } from '../disk/refusal.ts'

/** Free space that a new disk must leave. */
export const spareBytes = 64 * 2 ** 20

export async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder)
  return bavail * bsize
}

/** What a file takes on its file system; undefined: there is none, or it cannot be seen. */
export async function allocatedBytesOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).blocks * 512 // The unit of stat(2), whatever the file system's is.
  } catch {
    return undefined
  }
}

/** Before disk `name` is made. @throws Refusal `no-space` */
export async function checkSpace(folder: string, name: string, neededBytes: number): Promise<void> {
  const free = await freeBytes(folder)
  if (free >= neededBytes + spareBytes) return
  const message = `the data folder has ${free} bytes free; ${name} needs ${neededBytes} bytes, and ${spareBytes} bytes to spare`
  throw new Refusal('no-space', message, {
    disk: name,
    safe: 'Nothing was changed.',
    next: 'Make room, or use a data folder elsewhere.',
  })
}
