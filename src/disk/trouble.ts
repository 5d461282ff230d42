// What is wrong with a disk, if anything: its file or maps could not be opened, its file was made shorter, a sync failed, or
// power was lost. As a word for who decides by it, and as a sentence for operators.

import type { CommittedRecord } from './committed-record.ts'
import type { DiskFiles } from './disk-files.ts'
import type { DiskSyncs } from './sync/disk-syncs.ts'
import { failureSentence } from './sync/failed-sync.ts'
import { powerLossSentence } from './sync/power-loss.ts'
import type { UnsyncedWrites } from './sync/unsynced.ts'

export interface TroubleParts {
  readonly record: CommittedRecord
  readonly files: DiskFiles
  readonly syncs: DiskSyncs
  readonly unsynced: UnsyncedWrites
  /** `serve --after-power-loss hold`. */
  readonly holdsAfterPowerLoss: boolean
}

export class DiskTrouble {
  readonly #parts: TroubleParts
  /** Why its file or maps could not be opened. */
  readonly #atOpening: string | undefined

  constructor(parts: TroubleParts, atOpening: string | undefined) {
    this.#parts = parts
    this.#atOpening = atOpening
  }

  /** What is wrong, what is safe, and what to do next; undefined: nothing. */
  get sentence(): string | undefined {
    const { record, syncs, unsynced, holdsAfterPowerLoss } = this.#parts
    const ofFile = this.#atOpening ?? this.#ofFile
    if (ofFile) return ofFile
    if (syncs.failure) return failureSentence(record.now, syncs.failure)
    return unsynced.loss ? powerLossSentence(record.now, unsynced.loss, holdsAfterPowerLoss) : undefined
  }

  /** Its file or maps could not be opened. */
  get isUnusable(): boolean {
    return this.#atOpening !== undefined
  }

  /** Its file or maps could not be opened, or a sync failed: it takes no writes. */
  get isFailed(): boolean {
    return (this.#atOpening ?? this.#ofFile ?? this.#parts.syncs.failure) !== undefined
  }

  /** The failed sync of this disk: to try it again mends nothing. */
  isFinal(error: unknown): boolean {
    return error !== undefined && error === this.#parts.syncs.failure
  }

  /** A sync failed, and every block is here: what is left may be accepted. */
  get hasFailedSync(): boolean {
    const { record, syncs } = this.#parts
    return record.now.state === 'owned' && !this.isUnusable && syncs.failure !== undefined
  }

  /** Power was lost with unflushed writes of clients that live on, and nothing else keeps the operator from accepting it. */
  get lostPower(): boolean {
    return !this.isFailed && this.#parts.unsynced.loss !== null
  }

  /** Power was lost, and whoever may have lived through it waits for the operator. */
  get isHeld(): boolean {
    return this.#parts.holdsAfterPowerLoss && this.#parts.unsynced.loss !== null
  }

  get #ofFile(): string | undefined {
    const trouble = this.#parts.files.block?.trouble
    return trouble && `${trouble}. Guests get errors. Stop vmstore, put the file back from a copy, and start it again.`
  }
}
