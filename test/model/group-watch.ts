// Disks that move together are given up together, and taken together: at every step all of them are, on either site's
// records, or none is. A disk that was superseded has left the others.

import assert from 'node:assert/strict'
import type { DiskRecord } from '../../src/store/records.ts'
import type { SimSite } from './sim-site.ts'
import type { Stage } from './stage.ts'

export class GroupWatch {
  readonly #stage: Stage

  constructor(stage: Stage) {
    this.#stage = stage
  }

  check(): void {
    const { a, b, disks } = this.#stage
    if (disks.length > 1) for (const site of [a, b]) this.#checkTogether(site)
  }

  #checkTogether(site: SimSite): void {
    const { disks, facts } = this.#stage
    const records = disks.map(({ id }) => site.database.disk.get(id)).filter((record) => record?.state !== 'superseded')
    const standings = new Set(records.map(standingOf))
    assert(
      standings.size <= 1,
      `${facts}: promise 2: at ${site.name} disks that move together are ${[...standings].join('; ')}`,
    )
  }
}

/** What is the same of all. A disk that arrives is owned when all of it has come, each in its time. */
function standingOf(record: DiskRecord | undefined): string {
  if (!record || record.state === 'gone') return 'not here'
  const { state, generation, taken, migrationId } = record
  const word = state === 'owned' || state === 'arriving' ? 'owned' : state
  return `${word} in generation ${generation}${taken ? ' (taken)' : ''}, of migration ${migrationId}`
}
