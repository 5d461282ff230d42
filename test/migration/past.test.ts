import assert from 'node:assert/strict'
import { PastMigrations } from '../../src/migration/site/past.ts'
import { migrationRecord } from '../store/samples.ts'

type Sample = Parameters<typeof migrationRecord>

const ended = (id: string, day: number, facts: Sample[0] = {}, disk: Sample[1] = {}) =>
  migrationRecord({ id, state: 'done', endedAt: `2026-01-0${day}T00:00:00.000Z`, ...facts }, disk)

describe('migrations that are over', () => {
  it('are forgotten from the oldest on when there are too many', () => {
    const past = new PastMigrations()
    for (const [id, day] of [
      ['c', 3],
      ['a', 1],
      ['d', 4],
      ['b', 2],
    ] as const)
      past.add(ended(id, day, {}, { generation: day }))
    assert.deepEqual(past.surplus(4), [])
    assert.deepEqual(
      past.surplus(2).map(({ id }) => id),
      ['a', 'b'],
    )
  })

  it('are kept while somebody has to hear of them', () => {
    const past = new PastMigrations()
    past.add(ended('reclaimed', 1, { state: 'failed', role: 'source' }, { reclaimedAs: 3 }))
    past.add(ended('untold', 2, { sourceTold: false }))
    past.add(migrationRecord({ id: 'stopped', state: 'copying' }))
    past.add(ended('latest of its disk and peer', 3, {}, { generation: 9 }))
    past.add(ended('over', 4))
    assert.deepEqual(
      past.surplus(0).map(({ id }) => id),
      ['over'],
    )
  })
})
