// The disks of a move, as its record has them. Pure.
//
// A move has one disk so far: whoever counts on that asks for it here (`only`, `onlyDisk`, `changed`), and nowhere else.

import assert from 'node:assert/strict'
import type { MigrationRecord, MovedDisk } from '../store/records.ts'

/** What a commit changes of a move, and of its disk. */
export type MoveChanges = Partial<Omit<MigrationRecord, 'disks'>> & { readonly disk?: Partial<MovedDisk> }

export function only<T>(items: readonly T[]): T {
  assert.equal(items.length, 1)
  return items[0]!
}

export function onlyDisk({ disks }: MigrationRecord): MovedDisk {
  return only(disks)
}

export function changed(record: MigrationRecord, { disk, ...changes }: MoveChanges): MigrationRecord {
  return { ...record, ...changes, disks: [{ ...onlyDisk(record), ...disk }] }
}

/** For sentences: 'web01', or 'web01, web02'. */
export function diskNames({ disks }: MigrationRecord): string {
  return disks.map(({ name }) => name).join(', ')
}
