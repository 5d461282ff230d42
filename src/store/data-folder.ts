// The layout of a site's data folder, and its lock: one daemon at a time.
//
//   lock              held, as an open-file-description lock, by the daemon that runs
//   vmstore.sqlite    states, generations, migrations, grants, peers; vmstore.sqlite-commits: how many transactions it has
//   identity.key/crt  who this site is
//   control.sock      the control API;  nbd.sock  the default NBD listener
//   disks/UUID/       NAME.raw (sparse, raw), maps.log and dirty.map;  disks/.passing-UUID/ while it is made or removed

import { closeSync, constants, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { chmod, mkdir, readdir, rm, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { lockRange } from '../system/linux.ts'
import { syncFolder } from './kernel-files.ts'
import { StoreError } from './store-error.ts'

/** What has such a name among the disks belongs to nobody when a daemon starts. */
export const passingPrefix = '.passing-'

/** Nobody but the owner writes in it, and nobody but the owner's group looks: keys and the names of disks lie there. */
const modeMask = 0o750

const specialBits = 0o7000
const diskIdPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
/** Of a data folder that is nothing else, as /tmp is. */
const ourNames = /^(lock|disks|disk\.json|vmstore\.sqlite.*|identity\..*|.*\.sock)$/

/** A folder that was made by others, or copied, may be open to everybody. One that is somebody else's is theirs to close. */
async function close(folder: string): Promise<void> {
  const { mode } = await stat(folder)
  if ((mode & 0o777 & ~modeMask) === 0) return
  await chmod(folder, mode & (modeMask | specialBits)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPERM') throw error
  })
}

/** Removes what a daemon that ended was making or removing. */
async function removePassing(disks: string): Promise<void> {
  for (const name of await readdir(disks)) {
    if (name.startsWith(passingPrefix)) await rm(join(disks, name), { recursive: true, force: true })
  }
}

export class DataFolder {
  readonly root: string
  readonly #lockFd: number

  private constructor(root: string, lockFd: number) {
    this.root = root
    this.#lockFd = lockFd
  }

  /** Makes the folder if there is none, and takes its lock. @throws StoreError `locked` */
  static async open(path: string): Promise<DataFolder> {
    const root = resolve(path)
    await mkdir(join(root, 'disks'), { recursive: true, mode: 0o700 })
    const lockPath = join(root, 'lock')
    const fd = openSync(lockPath, constants.O_RDWR | constants.O_CREAT, 0o600)
    try {
      if (!lockRange(fd, 0, 1, 'exclusive')) {
        const holder = readFileSync(lockPath, 'utf8').trim()
        throw new StoreError(
          'locked',
          `the data folder ${root} is in use by another vmstore (process ${holder || 'unknown'})`,
          {
            next: 'Talk to that daemon, or stop it first, or give another folder with --root.',
          },
        )
      }
      if ((await readdir(root)).every((name) => ourNames.test(name))) await close(root)
      await close(join(root, 'disks'))
      await removePassing(join(root, 'disks'))
      ftruncateSync(fd, 0)
      writeSync(fd, `${process.pid}\n`)
      await syncFolder(root)
      return new DataFolder(root, fd)
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  get databasePath(): string {
    return join(this.root, 'vmstore.sqlite')
  }

  get controlPath(): string {
    return join(this.root, 'control.sock')
  }

  get nbdPath(): string {
    return join(this.root, 'nbd.sock')
  }

  get disksFolder(): string {
    return join(this.root, 'disks')
  }

  /** The ids of disks that have a folder here, on record or not. A file system has names of its own, such as lost+found. */
  async diskIds(): Promise<readonly string[]> {
    return (await readdir(this.disksFolder)).filter((name) => diskIdPattern.test(name))
  }

  passingFolder(id: string): string {
    return join(this.disksFolder, `${passingPrefix}${id}`)
  }

  diskFolder(id: string): string {
    return join(this.disksFolder, id)
  }

  /** Gives the lock back. The kernel does so too when the process ends in any way. */
  release(): void {
    closeSync(this.#lockFd)
  }
}
