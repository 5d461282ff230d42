// What has come of a disk, in bytes: data and zeros as they landed here, and what the source says that it sent.

import type { MigrationCounters } from '../../store/records.ts'
import type { SentOf } from '../counterpart.ts'

export class Tally {
  readonly #counters: { data: number; sent: number; skippedZero: number; resent: number; spared: number }

  /** `counters`: what is on record. */
  constructor(counters: MigrationCounters) {
    this.#counters = { spared: 0, ...counters }
  }

  get now(): MigrationCounters {
    return { ...this.#counters }
  }

  /** `isSpared`: it was here already, and did not travel. */
  landed(bytes: number, isData: boolean, isSpared = false): void {
    if (isData) this.#counters.data += bytes
    else this.#counters.skippedZero += bytes
    if (isData && isSpared) this.#counters.spared += bytes
  }

  /** The source counts what it sends; here it is kept, should the source start anew. */
  heard(disks: readonly SentOf[], disk: string): void {
    const { sent, resent } = disks.find((each) => each.disk === disk) ?? { sent: 0, resent: 0 }
    this.#counters.sent = Math.max(this.#counters.sent, sent)
    this.#counters.resent = Math.max(this.#counters.resent, resent)
  }
}
