// Moves a disk from state to state (states.ts says which moves there are): the one function that does.
//
// What always holds: every move is one durable commit, together with what must be durable in the same transaction. One that
// failed leaves the record, and so the guests' I/O, as they were: the caller decides.

import type { Change, DiskRecord } from '../store/records.ts'
import type { CommittedRecord } from './committed-record.ts'
import type { DiskFiles } from './disk-files.ts'
import { type DiskState, moved } from './states.ts'
import type { UnsyncedWrites } from './sync/unsynced.ts'

export interface MovesParts {
  readonly record: CommittedRecord
  readonly files: DiskFiles
  readonly unsynced: UnsyncedWrites
  readonly log: (level: 'error', facts: Record<string, unknown>, message: string) => void
}

export class Moves {
  readonly #parts: MovesParts

  constructor(parts: MovesParts) {
    this.#parts = parts
  }

  /** Commits the disk's move to `state` with `facts`, together with `others`; the guests' I/O follows the record. */
  async to(state: DiskState, facts: Partial<DiskRecord>, others: readonly Change[]): Promise<void> {
    const { record, files, unsynced, log } = this.#parts
    // What departs was synced. A loss that could not be recorded before goes along.
    const marks = () => (state === 'departed' ? { unsynced: null, powerLoss: unsynced.loss } : {})
    await record.commit((now) => moved(now, state, { ...facts, ...marks() }), others)
    unsynced.moved()
    if (state !== 'released' && state !== 'gone' && state !== 'superseded') return
    await files.close().catch((error: unknown) => {
      log('error', { disk: record.now.name, error: String(error) }, 'a file could not be closed')
    })
  }

  /** Commits facts that are no move. */
  async note(
    facts: Partial<Omit<DiskRecord, 'id' | 'state' | 'generation'>>,
    others: readonly Change[] = [],
  ): Promise<void> {
    await this.#parts.record.commit((now) => ({ ...now, ...facts }), others)
  }
}
