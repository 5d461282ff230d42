// What keeps a key from being renewed: moves that are not over, for they are known by the two keys that began them.

import { endedStates } from '../migration/course.ts'
import type { Migrations } from '../migration/site/migrations.ts'
import type { MigrationRecord } from '../store/records.ts'

/** Those under way, and those that are stopped until the next start. */
export function movesUnderWay(migrations: Migrations): readonly MigrationRecord[] {
  const stopped = migrations.past().filter(({ state }) => !endedStates.includes(state))
  return [...migrations.courses().map(({ record }) => record), ...stopped]
}

export function movesWith(migrations: Migrations, peerId: string): readonly MigrationRecord[] {
  return movesUnderWay(migrations).filter((record) => record.peerId === peerId)
}
