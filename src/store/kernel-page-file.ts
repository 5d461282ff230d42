// A file of pages on a Linux file system, written in place. What was written is with the kernel when the call returns.

import { writeSync } from 'node:fs'
import { Descriptor } from './descriptor.ts'
import type { PageFile } from './files.ts'
import { StoreError } from './store-error.ts'

export class KernelPageFile implements PageFile {
  readonly #path: string
  readonly #file: Descriptor

  constructor(path: string, fd: number) {
    this.#path = path
    this.#file = new Descriptor(path, fd)
  }

  write(offset: number, bytes: Uint8Array): void {
    if (this.#file.isClosed) throw new StoreError('closed', `${this.#path} is closed`)
    const count = writeSync(this.#file.now, bytes, 0, bytes.length, offset)
    if (count === bytes.length) return
    throw new StoreError('no-space', `a page was cut at ${count} of ${bytes.length} bytes: the file system is full`)
  }

  sync(): Promise<void> {
    return this.#file.sync()
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}
