// Where the log's lines go: a file descriptor that may be full, closed, or a pipe that nobody reads.
//
// What always holds: write() neither throws nor waits. What cannot be written is kept, up to a bound, then left out; and once
// lines can be written again, one says how many are missing. A process that dies has said what it could, because a line that
// can be written at once is.

import { fstatSync, write, writeSync } from 'node:fs'
import { canWrite } from '../system/poll.ts'

const keptBytes = 256 * 1024
const retryMs = 100
/** What a pipe with any room takes whole, without waiting: PIPE_BUF (pipe(7)). */
const atOnceBytes = 4096

export interface LogOutputOptions {
  /** A line of the log that says that so many are missing. */
  leftOut(count: number): string
}

export class LogOutput {
  readonly #fd: number
  readonly #leftOut: LogOutputOptions['leftOut']
  /** A regular file may lie on storage that hangs: the thread pool waits for it. */
  readonly #isFile: boolean
  #kept: Buffer[] = []
  #keptBytes = 0
  #missing = 0
  #isWriting = false
  #retry: NodeJS.Timeout | undefined

  constructor(fd: number, options: LogOutputOptions) {
    this.#fd = fd
    this.#leftOut = options.leftOut
    this.#isFile = isFile(fd)
    process.on('exit', () => this.#drainNow(true))
  }

  /** Lines that have not been written, and will be if they can. */
  get keptLines(): number {
    return this.#kept.length
  }

  write(line: string): void {
    const bytes = Buffer.from(line)
    if (this.#keptBytes + bytes.length > keptBytes) {
      this.#missing++
      return
    }
    this.#kept.push(bytes)
    this.#keptBytes += bytes.length
    this.#drain()
  }

  #drain(): void {
    if (this.#isFile) this.#drainFile()
    else this.#drainNow(false)
    if (this.#kept.length > 0) this.#retry ??= setTimeout(() => this.#again(), retryMs).unref()
  }

  #again(): void {
    this.#retry = undefined
    this.#drain()
  }

  /** As far as the descriptor takes it at once. `isFileToo`: the process ends, and nobody comes back. */
  #drainNow(isFileToo: boolean): void {
    try {
      for (let first = this.#kept[0]; first; first = this.#kept[0]) {
        if (!(this.#isFile && isFileToo) && !canWrite(this.#fd)) return
        const part = this.#isFile ? first : first.subarray(0, atOnceBytes)
        this.#took(writeSync(this.#fd, part))
      }
    } catch {
      // It is full, or closed: kept for another time, as far as there is room.
    }
  }

  #drainFile(): void {
    const [first] = this.#kept
    if (this.#isWriting || !first) return
    this.#isWriting = true
    write(this.#fd, first, (error, count) => {
      this.#isWriting = false
      if (error) return
      this.#took(count)
      this.#drain()
    })
  }

  #took(count: number): void {
    const [first] = this.#kept
    if (!first) return
    this.#keptBytes -= count
    if (count < first.length) {
      this.#kept[0] = first.subarray(count)
      return
    }
    this.#kept.shift()
    if (this.#kept.length > 0 || this.#missing === 0) return
    const line = Buffer.from(this.#leftOut(this.#missing))
    this.#missing = 0
    this.#kept.push(line)
    this.#keptBytes += line.length
  }
}

function isFile(fd: number): boolean {
  try {
    return fstatSync(fd).isFile()
  } catch {
    return false
  }
}
