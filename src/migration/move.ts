// The disks of a move, as its record has them. Pure.

import assert from 'node:assert/strict'
import type { MigrationCounters, MigrationRecord, MovedDisk } from '../store/records.ts'

/** What a commit changes of a move, and of its disks, by their ids. */
export type MoveChanges = Partial<Omit<MigrationRecord, 'disks'>> & {
  readonly disks?: Readonly<Record<string, Partial<MovedDisk>>>
}

/** Of a move that has one disk. */
export function only<T>(items: readonly T[]): T {
  assert.equal(items.length, 1)
  return items[0]!
}

export function movedDisk({ id: move, disks }: MigrationRecord, id: string): MovedDisk {
  const found = disks.find((each) => each.id === id)
  assert(found, `${id} is not in migration ${move}`)
  return found
}

export function changed(record: MigrationRecord, { disks = {}, ...changes }: MoveChanges): MigrationRecord {
  for (const id of Object.keys(disks)) movedDisk(record, id)
  return { ...record, ...changes, disks: record.disks.map((each) => ({ ...each, ...disks[each.id] })) }
}

/** The same of every disk that is still in the move. */
export function ofEach(
  record: MigrationRecord,
  facts: (disk: MovedDisk) => Partial<MovedDisk>,
): Readonly<Record<string, Partial<MovedDisk>>> {
  return Object.fromEntries(record.disks.filter(({ hasLeft }) => !hasLeft).map((disk) => [disk.id, facts(disk)]))
}

export function summed(counters: readonly MigrationCounters[]): Required<MigrationCounters> {
  const sum = { data: 0, sent: 0, skippedZero: 0, resent: 0, spared: 0 }
  for (const { data, sent, skippedZero, resent, spared = 0 } of counters) {
    sum.data += data
    sum.sent += sent
    sum.skippedZero += skippedZero
    sum.resent += resent
    sum.spared += spared
  }
  return sum
}

/** For sentences: 'web01', or 'web01, web02'. */
export function diskNames({ disks }: MigrationRecord): string {
  return disks.map(({ name }) => name).join(', ')
}
