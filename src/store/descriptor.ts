// An open file's number, and who uses it. A call in the thread pool may last longer than the file is wanted; if the number
// were free by then, the call could read from, or write to, a file that was opened meanwhile.
// Always: the number is given back to the kernel only after the last call that got it has come back.

import { closeSync, fdatasync } from 'node:fs'
import { promisify } from 'node:util'
import { FailedSync } from './files.ts'
import { StoreError } from './store-error.ts'

const fdatasyncAsync = promisify(fdatasync)

/** What a closed file has for a number: no call succeeds with it. */
const closedFd = -1

export class Descriptor {
  readonly #path: string
  readonly #fd: number
  #users = 0
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
  async use<T>(call: (fd: number) => Promise<T>): Promise<T> {
    if (this.#isClosing) throw new StoreError('closed', `${this.#path} is closed`)
    this.#users++
    try {
      return await call(this.#fd)
    } finally {
      this.#users--
      if (this.#isClosing && this.#users === 0) this.#unused.resolve()
    }
  }

  /** fdatasync. @throws FailedSync */
  sync(): Promise<void> {
    return this.use(async (fd) => {
      try {
        await fdatasyncAsync(fd)
      } catch (error) {
        throw new FailedSync(this.#path, error)
      }
    })
  }

  /** Nothing begins any more; resolves when the calls under way are over and the file is closed. */
  async close(): Promise<void> {
    if (this.#isClosing) return this.#unused.promise
    this.#isClosing = true
    if (this.#users > 0) await this.#unused.promise
    closeSync(this.#fd)
    this.#unused.resolve()
  }
}
