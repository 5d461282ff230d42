// What keeps a key from being renewed: moves that are not over, for they are known by the two keys that began them.

import { endedStates } from '../migration/course.ts'
import type { Migrations } from '../migration/site/migrations.ts'
import type { MigrationRecord } from '../store/records.ts'

/** Those under way, and those that are stopped until the next start. */
export function movesUnderWay(migrations: Migrations): readonly MigrationRecord[] {
  const stopped = migrations.past().filter(({ state }) => !endedStates.includes(state))
  return [...migrations.courses().map(({ record }) => record), ...stopped]
}

/** Those that are over, of which this site has still to tell the source, under the key that it had. */
export function movesUntold(migrations: Migrations): readonly MigrationRecord[] {
  return migrations
    .past()
    .filter(({ role, state, sourceTold }) => role === 'destination' && state === 'done' && !sourceTold)
}

/** All of these with one peer. */
export function movesWith(migrations: Migrations, peerId: string): readonly MigrationRecord[] {
  return [...movesUnderWay(migrations), ...movesUntold(migrations)].filter((record) => record.peerId === peerId)
}
