// The record of one disk, as it was last committed.
//
// What always holds:
// - One commit at a time, each built on the one before. One that failed leaves the record as it was: the caller decides.
// - When the state has changed, whoever depends on it is told in the same step as the record.
// - Several records that are committed together change in the same step, or none does.

import assert from 'node:assert/strict'
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
    return CommittedRecord.commit([{ record: this, next }], others, () => {})
  }

  /** Commits these facts alone, while they mean something; `next` tells them when the commits before are done. */
  mark(next: DiskMarks | (() => DiskMarks)): Promise<void> {
    return CommittedRecord.#inTurnOf([this], async () => {
      const { state, id } = this.#now
      if (state !== 'owned' && state !== 'arriving') return
      const facts = typeof next === 'function' ? next() : next
      await this.#records.commit([{ mark: 'disk', id, facts }])
      this.#now = { ...this.#now, ...facts }
    })
  }

  /**
   * Commits what becomes of each of these records (of one site, each named once), together with `others`, as one transaction.
   * `committed` is called in the step in which they have all changed.
   */
  static commit(nexts: readonly NextRecord[], others: readonly Change[], committed: () => void): Promise<void> {
    const records = nexts.map(({ record }) => record)
    assert(records.length > 0 && new Set(records).size === records.length)
    return CommittedRecord.#inTurnOf(records, async () => {
      const changes = nexts.map(({ record, next }) => ({ record, before: record.#now, after: next(record.#now) }))
      const puts = changes.map(({ after }) => ({ put: 'disk' as const, record: after }))
      await records[0]!.#records.commit([...puts, ...others])
      for (const { record, after } of changes) record.#now = after
      for (const { record, before, after } of changes) if (after.state !== before.state) record.#stateChanged()
      committed()
    })
  }

  /**
   * Works once all that was to be committed of these records before is over. They are queued for in one synchronous step, so
   * that of two who queue for the same records one is first everywhere: they never wait for each other.
   */
  static #inTurnOf(records: readonly CommittedRecord[], commit: () => Promise<void>): Promise<void> {
    const work = Promise.all(records.map((record) => record.#commits)).then(commit)
    const over = work.catch(() => {})
    for (const record of records) record.#commits = over
    return work
  }
}

export interface NextRecord {
  readonly record: CommittedRecord
  next(record: DiskRecord): DiskRecord
}
