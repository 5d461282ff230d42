// The record of one disk, as it was last committed.
//
// What always holds:
// - One commit at a time, each built on the one before. One that failed leaves the record as it was: the caller decides.
// - When the state has changed, whoever depends on it is told in the same step as the record.

import type { Change, DiskMarks, DiskRecord, Records } from '../store/records.ts'

export class CommittedRecord {
  readonly #records: Records
  readonly #stateChanged: () => void
  #now: DiskRecord
  #commits: Promise<void> = Promise.resolve()

  constructor(record: DiskRecord, records: Records, stateChanged: () => void) {
    this.#now = record
    this.#records = records
    this.#stateChanged = stateChanged
  }

  get now(): DiskRecord {
    return this.#now
  }

  /** Commits what `next` makes of the record, together with `others`. */
  commit(next: (record: DiskRecord) => DiskRecord, others: readonly Change[]): Promise<void> {
    return this.#inTurn(async () => {
      const record = next(this.#now)
      await this.#records.commit([{ put: 'disk', record }, ...others])
      const before = this.#now.state
      this.#now = record
      if (record.state !== before) this.#stateChanged()
    })
  }

  /** Commits these facts alone, while they mean something; `next` tells them when the commits before are done. */
  mark(next: DiskMarks | (() => DiskMarks)): Promise<void> {
    return this.#inTurn(async () => {
      const { state, id } = this.#now
      if (state !== 'owned' && state !== 'arriving') return
      const facts = typeof next === 'function' ? next() : next
      await this.#records.commit([{ mark: 'disk', id, facts }])
      this.#now = { ...this.#now, ...facts }
    })
  }

  #inTurn(commit: () => Promise<void>): Promise<void> {
    const work = this.#commits.then(commit)
    this.#commits = work.catch(() => {})
    return work
  }
}
