// An open file's number, and who uses it. A call in the thread pool may last longer than the file is wanted; if the number
// were free by then, the call could read from, or write to, a file that was opened meanwhile.
// Always: the number is given back to the kernel only after the last call that got it has come back. And a file has no more
// than its share of the pool: a disk that hangs would otherwise have every thread, and the others' syncs and cold reads
// would hang with it.

import { closeSync, fdatasync, fstat } from 'node:fs'
import { promisify } from 'node:util'
import { FailedSync } from './files.ts'
import { StoreError } from './store-error.ts'

const fdatasyncAsync = promisify(fdatasync)
const fstatAsync = promisify(fstat)

const poolThreads = Number(process.env['UV_THREADPOOL_SIZE']) || 4 // libuv's own choice.
/**
 * A file's calls in the pool at once: of the 64 threads that bin/run.js asks for 16, as many as disks like to have in flight.
 * Its sync is one more: who flushes does not wait behind a long read.
 */
export const poolShare = Math.max(2, Math.min(16, Math.floor(poolThreads / 4)))

/** What a closed file has for a number: no call succeeds with it. */
const closedFd = -1

export class Descriptor {
  readonly #path: string
  readonly #fd: number
  #users = 0
  #calls = 0
  /** Calls for which there is no room in the share yet, in the order in which they came. */
  readonly #waiting: (() => void)[] = []
  #isClosing = false
  readonly #unused = Promise.withResolvers<void>()

  constructor(path: string, fd: number) {
    this.#path = path
    this.#fd = fd
  }

  /** For calls that end before this turn does. */
  get now(): number {
    return this.#isClosing ? closedFd : this.#fd
  }

  get isClosed(): boolean {
    return this.#isClosing
  }

  /** For calls that take their time. Throws StoreError `closed`. */
  use<T>(call: (fd: number) => Promise<T>): Promise<T> {
    return this.#used(async (fd) => {
      if (this.#calls < poolShare) this.#calls++
      else await new Promise<void>((resolve) => this.#waiting.push(resolve)) // For the place of one that has ended.
      try {
        // However many wait at a close, it takes no longer than what has begun: whoever asked is gone.
        if (this.#isClosing) throw this.#isClosed()
        return await call(fd)
      } finally {
        const next = this.#waiting.shift()
        if (next) next()
        else this.#calls--
      }
    })
  }

  /** fdatasync. @throws FailedSync */
  sync(): Promise<void> {
    return this.#used(async (fd) => {
      try {
        await fdatasyncAsync(fd)
      } catch (error) {
        throw new FailedSync(this.#path, error)
      }
    })
  }

  /** How large the file is. Beside the share, as a sync is. */
  size(): Promise<number> {
    return this.#used(async (fd) => (await fstatAsync(fd)).size)
  }

  async #used<T>(call: (fd: number) => Promise<T>): Promise<T> {
    if (this.#isClosing) throw this.#isClosed()
    this.#users++
    try {
      return await call(this.#fd)
    } finally {
      this.#users--
      if (this.#isClosing && this.#users === 0) this.#unused.resolve()
    }
  }

  #isClosed(): StoreError {
    return new StoreError('closed', `${this.#path} is closed`)
  }

  /** Nothing begins any more, also of what waits for its place; resolves when the calls under way are over and the file is closed. */
  async close(): Promise<void> {
    if (this.#isClosing) return this.#unused.promise
    this.#isClosing = true
    if (this.#users > 0) await this.#unused.promise
    closeSync(this.#fd)
    this.#unused.resolve()
  }
}
