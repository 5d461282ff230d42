// How much room the data folder has, and what a new disk must leave of it to the others.

import { stat, statfs } from 'node:fs/promises'
import { Refusal } from '../disk/refusal.ts'
import { lackOfRoom } from '../disk/room.ts'

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
  const lack = lackOfRoom(await freeBytes(folder), name, neededBytes)
  if (lack === undefined) return
  throw new Refusal('no-space', `the data folder has ${lack}`, {
    disk: name,
    safe: 'Nothing was changed.',
    next: 'Make room, or use a data folder elsewhere.',
  })
}
