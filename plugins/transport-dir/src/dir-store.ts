// Objects as files below one folder. What always holds: a file under an object's name is whole and outlives a crash of this
// host and of the file server once its put has answered; it gets its name in one step, and with `ifAbsent` by link(2), which
// no two can win, over NFS neither. Nothing is kept in memory, so any number of processes and hosts may share a folder.

import { randomBytes } from 'node:crypto'
import { constants, type Dirent } from 'node:fs'
import { type FileHandle, lstat, mkdir, open, opendir, readdir, rmdir, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type Log,
  largestObjectBytes,
  type ObjectInfo,
  type ObjectStore,
  TransportError,
  type TransportOptions,
} from 'vmstore/transport'
import { codeOf, ifThere, transportError } from './failures.ts'
import { type Entry, entryOf, foldersOf, isTemporary, placeOf, temporaryName } from './file-names.ts'
import { linked, renamed } from './naming.ts'
import { until } from './until.ts'

/** A folder that somebody removes each time that a put has made it. */
const maxAttempts = 16
/** A temporary file as old as this is nobody's; a put whose file goes all the same writes another. */
const abandonedMs = 15 * 60_000
/** No link is followed, and a pipe that lies there instead of a file stops nobody. */
const readFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
const halves = /[\ud800-\udfff]/
const folderFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW

interface PutOptions {
  ifAbsent?: boolean
  signal?: AbortSignal
}

export class DirStore implements ObjectStore {
  readonly #root: string
  /** Of the root's file system: another one there means that a disk was unmounted, and bytes would go astray. */
  readonly #device: number
  readonly #log: Log

  private constructor(root: string, device: number, log: Log) {
    this.#root = root
    this.#device = device
    this.#log = log
  }

  /** @throws TransportError */
  static async open(root: string, options: TransportOptions): Promise<DirStore> {
    return await until(options.signal, async () => {
      const what = `the folder ${root} cannot be used`
      const found = await stat(root).catch((error) => {
        throw transportError(what, error)
      })
      if (!found.isDirectory()) throw new TransportError('missing', `${what}: it is no folder`)
      return new DirStore(root, found.dev, options.log)
    })
  }

  put(key: string, body: Uint8Array, { ifAbsent = false, signal }: PutOptions = {}): Promise<'stored' | 'exists'> {
    return this.#doing(`an object cannot be put into ${this.#root}`, signal, async () => {
      const { folders, file } = placeOf(key)
      if (body.length > largestObjectBytes) throw tooLarge(key)
      for (let attempt = 1; ; attempt++) {
        await this.#checkRoot()
        try {
          const folder = await this.#makeFolders(folders)
          signal?.throwIfAborted()
          return await this.#putFile(folder, file, body, ifAbsent)
        } catch (error) {
          // Another one's delete took the folder as an empty one, or our file as an abandoned one.
          if (codeOf(error) !== 'ENOENT') throw error
          if (attempt === maxAttempts)
            throw new TransportError('unavailable', `the folders of ${key} go as fast as they are made`)
        }
      }
    })
  }

  get(key: string, { signal }: { signal?: AbortSignal } = {}): Promise<Uint8Array | undefined> {
    return this.#doing(`an object cannot be read from ${this.#root}`, signal, async () => {
      const { folders, file } = placeOf(key)
      const folder = join(this.#root, ...folders)
      const handle = (await openFile(join(folder, file))) ?? (await this.#openAfresh(folder, file))
      if (!handle) {
        await this.#checkRoot()
        return undefined
      }
      try {
        const { size } = await handle.stat()
        if (size > largestObjectBytes) throw tooLarge(key)
        return await handle.readFile()
      } finally {
        await handle.close()
      }
    })
  }

  async *list(
    prefix: string,
    { after, signal }: { after?: string; signal?: AbortSignal } = {},
  ): AsyncIterable<ObjectInfo> {
    signal?.throwIfAborted()
    const parts = prefix.split('/').slice(0, -1)
    const from = join(this.#root, ...foldersOf(prefix))
    yield* this.#walk(from, parts.map((part) => `${part}/`).join(''), { prefix, after, signal })
  }

  delete(keys: readonly string[], { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    return this.#doing(`objects cannot be deleted from ${this.#root}`, signal, async () => {
      await this.#checkRoot()
      const touched = new Map<string, readonly string[]>()
      for (const key of keys) {
        signal?.throwIfAborted()
        const { folders, file } = placeOf(key)
        const folder = join(this.#root, ...folders)
        const deleted = await ifThere(unlink(join(folder, file)).then(() => true))
        if (deleted) touched.set(folder, folders)
      }
      for (const folder of touched.keys()) await ifThere(this.#syncFolder(folder))
      for (const folders of touched.values()) await this.#removeEmpty(folders)
    })
  }

  async close(): Promise<void> {}

  /** Bytes first, durably, under a name that is no object's; then the object's name in one step; then the folder. */
  async #putFile(folder: string, file: string, body: Uint8Array, ifAbsent: boolean): Promise<'stored' | 'exists'> {
    const temporary = join(folder, temporaryName(randomBytes(12).toString('hex')))
    const target = join(folder, file)
    const handle = await open(temporary, 'wx')
    let isGone = false
    try {
      const { ino } = await handle.stat()
      await handle.writeFile(body)
      await handle.sync()
      const won = ifAbsent ? await linked(temporary, target, ino) : await renamed(temporary, target, ino)
      isGone = !ifAbsent
      await this.#syncFolder(folder)
      return won ? 'stored' : 'exists'
    } finally {
      await handle.close()
      if (!isGone) await ifThere(unlink(temporary))
    }
  }

  /** Each new folder is durable in the one above it before anything lies in it. */
  async #makeFolders(folders: readonly string[]): Promise<string> {
    let path = this.#root
    for (const name of folders) {
      const above = path
      path = join(path, name)
      const made = await mkdir(path).then(
        () => true,
        (error) => {
          if (codeOf(error) === 'EEXIST') return false
          throw error
        },
      )
      if (made) await this.#syncFolder(above)
      else if (!(await lstat(path)).isDirectory()) {
        throw new TransportError('denied', `${path} lies where a folder of the store belongs, and is none`)
      }
    }
    return path
  }

  /** Opening a folder has NFS ask its server, which a name that was not there a moment ago does not. */
  async #openAfresh(folder: string, file: string): Promise<FileHandle | undefined> {
    const seen = await ifThere(open(folder, folderFlags))
    if (!seen) return undefined
    await seen.close()
    return await openFile(join(folder, file))
  }

  async #syncFolder(path: string): Promise<void> {
    const handle = await open(path, folderFlags)
    try {
      await handle.sync()
    } catch (error) {
      // FUSE and SMB may have no sync of folders: what they promise is what there is.
      if (!['EINVAL', 'ENOTSUP', 'EOPNOTSUPP'].includes(codeOf(error) ?? '')) throw error
      this.#log.warn({ folder: path, err: error }, 'a folder of this file system cannot be synced')
    } finally {
      await handle.close()
    }
  }

  /** In order of bytes: a folder stands where its name with the slash stands. */
  async *#walk(
    folder: string,
    above: string,
    wanted: { prefix: string; after: string | undefined; signal: AbortSignal | undefined },
  ): AsyncGenerator<ObjectInfo> {
    const { prefix, after, signal } = wanted
    for (const { kind, key, name } of await this.#entries(folder, above, signal)) {
      if (kind === 'folder') {
        const mayHold = key.startsWith(prefix) || prefix.startsWith(key)
        const isBefore = after !== undefined && compare(key, after) < 0 && !after.startsWith(key)
        if (mayHold && !isBefore) yield* this.#walk(join(folder, name), key, wanted)
      } else if (key.startsWith(prefix) && (after === undefined || compare(key, after) > 0)) {
        const found = await this.#doing(this.#listing, signal, () => ifThere(lstat(join(folder, name))))
        if (found?.isFile()) yield { key, sizeBytes: found.size }
      }
    }
  }

  async #entries(folder: string, above: string, signal: AbortSignal | undefined) {
    const names: Dirent[] = await this.#doing(this.#listing, signal, async () => {
      const read = await ifThere(readdir(folder, { withFileTypes: true }))
      if (!read) await this.#checkRoot()
      return read ?? []
    })
    const found: { kind: NonNullable<Entry>['kind']; key: string; name: string }[] = []
    for (const dirent of names) {
      if (!dirent.isFile() && !dirent.isDirectory()) continue
      const entry = entryOf(dirent.name, dirent.isDirectory())
      if (!entry) continue
      const key = above + entry.part + (entry.kind === 'folder' ? '/' : '')
      found.push({ kind: entry.kind, key, name: dirent.name })
    }
    return found.sort((one, other) => compare(one.key, other.key))
  }

  get #listing(): string {
    return `the objects in ${this.#root} cannot be listed`
  }

  /** From the innermost outwards, as far as they are empty; what a crash left in them goes first. */
  async #removeEmpty(folders: readonly string[]): Promise<void> {
    for (let depth = folders.length; depth > 0; depth--) {
      const path = join(this.#root, ...folders.slice(0, depth))
      try {
        await this.#removeAbandoned(path)
        await rmdir(path)
      } catch (error) {
        if (codeOf(error) === 'ENOENT') continue
        if (codeOf(error) === 'ENOTEMPTY' || codeOf(error) === 'EEXIST') return
        throw error
      }
    }
  }

  /** Looks no further than to the first thing that stays: a folder of many objects costs little. */
  async #removeAbandoned(folder: string): Promise<void> {
    for await (const { name } of await opendir(folder)) {
      if (!isTemporary(name)) return
      const found = await ifThere(lstat(join(folder, name)))
      if (found && Date.now() - found.mtimeMs <= abandonedMs) return
      await ifThere(unlink(join(folder, name)))
    }
  }

  async #checkRoot(): Promise<void> {
    const { dev } = await stat(this.#root)
    if (dev === this.#device) return
    throw new TransportError('unavailable', `another file system than before is mounted at ${this.#root}`)
  }

  #doing<T>(what: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    return until(signal, async () => {
      try {
        return await work()
      } catch (error) {
        throw signal?.aborted ? signal.reason : transportError(what, error)
      }
    })
  }
}

async function openFile(path: string): Promise<FileHandle | undefined> {
  const handle = await ifThere(open(path, readFlags))
  if (handle && !(await handle.stat()).isFile()) {
    await handle.close()
    throw new TransportError('denied', `${path} lies where an object belongs, and is no file`)
  }
  return handle
}

/** By bytes of UTF-8: as JavaScript compares, but where a character has two halves. */
function compare(one: string, other: string): number {
  if (halves.test(one) || halves.test(other)) return Buffer.compare(Buffer.from(one), Buffer.from(other))
  return one < other ? -1 : Number(one > other)
}

function tooLarge(key: string): TransportError {
  return new TransportError('denied', `the object ${key} is larger than ${largestObjectBytes} bytes`)
}
