// How many transactions were committed, beside the database that has them: written after each. A database that has fewer was
// put back, or lost some in silence (SQLite drops what lies behind a damaged place of its write-ahead log without a word),
// and with them generations and fences.
//
// What always holds: the witness never says more than is durable. It may say less: it is not synced, a write of it that fails
// is no failure, and one that cannot be read says nothing.

import { closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs'
import { crc32 } from 'node:zlib'

const lineBytes = 48

export class CommitWitness {
  readonly #path: string
  #fd: number | undefined

  constructor(path: string) {
    this.#path = path
  }

  /** undefined: it says nothing. */
  read(): number | undefined {
    let line: string
    try {
      line = readFileSync(this.#path, 'latin1')
    } catch {
      return undefined
    }
    const [, count = '', checksum] = /^commits ([0-9]+) ([0-9a-f]{8})\s*$/.exec(line) ?? []
    return checksum === checksumOf(count) ? Number(count) : undefined
  }

  write(count: number): void {
    try {
      this.#fd ??= openSync(this.#path, constants.O_WRONLY | constants.O_CREAT, 0o600)
      const text = `commits ${count} ${checksumOf(String(count))}`
      writeSync(this.#fd, `${text.padEnd(lineBytes - 1)}\n`, 0, 'latin1')
    } catch {
      // It says less than it could.
    }
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
  }
}

const checksumOf = (count: string): string => crc32(count).toString(16).padStart(8, '0')
