// A log on a Linux file system. What was appended is with the kernel when the call returns.
//
// What always holds: the file ends with a whole record. Half a one, of which no more would fit, is cut off before the next,
// for what comes after it could never be read.

import { fstatSync, ftruncateSync, writeSync } from 'node:fs'
import { Descriptor } from './descriptor.ts'
import type { LogFile } from './files.ts'
import { StoreError } from './store-error.ts'

export class KernelLogFile implements LogFile {
  readonly #path: string
  readonly #file: Descriptor
  #lengthBytes: number
  #torn = false

  constructor(path: string, fd: number) {
    this.#path = path
    this.#file = new Descriptor(path, fd)
    this.#lengthBytes = fstatSync(fd).size
  }

  append(bytes: Uint8Array): void {
    if (this.#file.isClosed) throw new StoreError('closed', `${this.#path} is closed`)
    if (this.#torn) this.#mend()
    let count = 0
    try {
      count = writeSync(this.#file.now, bytes, 0, bytes.length)
    } finally {
      this.#torn = count !== 0 && count !== bytes.length
      if (count === bytes.length) this.#lengthBytes += count
    }
    if (count === bytes.length) return
    if (this.#torn) this.#mend()
    throw new StoreError(
      'no-space',
      `a map record was cut at ${count} of ${bytes.length} bytes: the file system is full`,
    )
  }

  /** While this fails, nothing is appended. */
  #mend(): void {
    ftruncateSync(this.#file.now, this.#lengthBytes)
    this.#torn = false
  }

  sync(): Promise<void> {
    return this.#file.sync()
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}
