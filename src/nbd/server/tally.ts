// What one client has asked for since its session began. Counted as a request is begun: a few additions each.

import { Command } from '../wire/constants.ts'
import type { Request } from '../wire/transmission-codecs.ts'

export class Tally {
  reads = 0
  readBytes = 0
  /** WRITE, TRIM and WRITE_ZEROES. */
  writes = 0
  writtenBytes = 0
  flushes = 0

  count({ type, lengthBytes }: Request): void {
    if (type === Command.read) {
      this.reads++
      this.readBytes += lengthBytes
    } else if (type === Command.write || type === Command.trim || type === Command.writeZeroes) {
      this.writes++
      this.writtenBytes += lengthBytes
    } else if (type === Command.flush) this.flushes++
  }
}
