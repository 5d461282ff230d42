// How a whole file gets an object's name, in one step. Over NFS the answer to a call that was carried out may be lost, and the
// call made again fails: whose file has the name is then told by its inode.

import { link, lstat, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { TransportError } from 'vmstore/transport'
import { codeOf, ifThere, lacksLinks } from './failures.ts'

/** `ino` is the temporary file's. False: another file has the name. The temporary name stays. */
export async function linked(temporary: string, target: string, ino: number, call = link): Promise<boolean> {
  try {
    await call(temporary, target)
    return true
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return await isOurs(target, ino)
    if (!lacksLinks(error)) throw error
    const message = `the file system of ${dirname(temporary)} has no hard links: it cannot say which of two came first`
    throw new TransportError('unfit', message, { cause: error })
  }
}

/** In the place of what had the name. The temporary name is gone. */
export async function renamed(temporary: string, target: string, ino: number, call = rename): Promise<true> {
  try {
    await call(temporary, target)
  } catch (error) {
    if (codeOf(error) !== 'ENOENT' || !(await isOurs(target, ino))) throw error
  }
  return true
}

async function isOurs(target: string, ino: number): Promise<boolean> {
  return (await ifThere(lstat(target)))?.ino === ino
}
