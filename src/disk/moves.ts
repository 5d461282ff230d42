// How a disk moves from state to state (states.ts says which moves there are): the one place that plans it.
//
// What always holds: nothing moves before its plan is committed (plan.ts). Where that failed the record, and so the guests'
// I/O, are as they were: the caller decides.

import type { DiskRecord } from '../store/records.ts'
import type { CommittedRecord } from './committed-record.ts'
import type { Tracking } from './departure/tracking.ts'
import type { DiskFiles } from './disk-files.ts'
import type { DiskPlan } from './plan.ts'
import { type DiskState, moved } from './states.ts'
import type { UnsyncedWrites } from './sync/unsynced.ts'

export interface MovesParts {
  readonly record: CommittedRecord
  readonly files: DiskFiles
  readonly unsynced: UnsyncedWrites
  readonly tracking: Tracking
  readonly log: (level: 'error', facts: Record<string, unknown>, message: string) => void
}

/** `facts`: of the move, or what tells them when it is its turn. */
export interface Move {
  readonly to: DiskState
  readonly facts: Partial<DiskRecord> | (() => Partial<DiskRecord>)
  readonly committed?: () => void
  readonly afterwards?: () => Promise<void>
}

export class Moves {
  readonly #parts: MovesParts

  constructor(parts: MovesParts) {
    this.#parts = parts
  }

  /** The disk's move to another state; the guests' I/O follows the record. */
  plan({ to, facts, committed, afterwards }: Move): DiskPlan {
    const { record, unsynced, tracking } = this.#parts
    // What departs was synced. A loss that could not be recorded before goes along.
    const marks = () => (to === 'departed' ? { unsynced: null, powerLoss: unsynced.loss } : {})
    return {
      record,
      next: (now) => moved(now, to, { ...(typeof facts === 'function' ? facts() : facts), ...marks() }),
      committed: () => {
        unsynced.moved()
        tracking.moved()
        committed?.()
      },
      afterwards: async () => {
        await tracking.discard()
        if (to === 'released' || to === 'gone' || to === 'superseded') await this.#closeFiles()
        await afterwards?.()
      },
    }
  }

  /** Facts that are no move. */
  planFacts(facts: Partial<Omit<DiskRecord, 'id' | 'state' | 'generation'>>): DiskPlan {
    const { record, tracking } = this.#parts
    return {
      record,
      next: (now) => ({ ...now, ...facts }),
      committed: () => tracking.moved(),
      afterwards: () => tracking.discard(),
    }
  }

  async #closeFiles(): Promise<void> {
    const { files, record, log } = this.#parts
    await files.close().catch((error: unknown) => {
      log('error', { disk: record.now.name, error: String(error) }, 'a file could not be closed')
    })
  }
}
