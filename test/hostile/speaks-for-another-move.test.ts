// A peer that speaks of a move which is another's: everything that the two sites of a move say to each other, from a third one that
// is paired with either. Would break promises 1, 2, 8 and 10.

import assert from 'node:assert/strict'
import { begin, endSitesAfterEach, twoSites, untilDisk, untilMigration } from '../e2e/sites.ts'
import { HostileSite } from './hostile-site.ts'
import { createGuestDisk, Witness } from './witness.ts'

const nobody = { held: null, refused: null }
const counters = { data: 1, sent: 1, skippedZero: 0, resent: 0 }
const run = '00000000-0000-4000-8000-000000000002'

describe('hostile: a peer that speaks for a move that is not its own', () => {
  endSitesAfterEach()

  it('promise 10: nothing that it says of it is heard, at either site, before switchover and after', async () => {
    const { a, b } = await twoSites()
    const { id: disk } = await createGuestDisk(a)
    const { id } = await begin(a, b, 'web01', 'manual', { maxRate: 64 * 1024 })
    await untilMigration(b, id, ({ state }) => state === 'ready')
    const [atA, atB] = [await HostileSite.paired(a), await HostileSite.paired(b)]
    const source = await Witness.of(a)
    const before = [await a.control.showMigration(id), await b.control.showMigration(id)]
    for (const generation of [1, 2]) for (const hostile of [atA, atB]) await sayAll(hostile, id, disk, generation)
    const after = [await a.control.showMigration(id), await b.control.showMigration(id)]
    for (const [index, { state, disks, owner }] of after.entries())
      assert.deepEqual(
        [state, disks.length, owner],
        [before[index]!.state, before[index]!.disks.length, before[index]!.owner],
      )
    await source.unharmed()

    await a.control.switchover(id, { force: true })
    await untilDisk(b, 'web01', ({ state }) => state === 'arriving')
    for (const generation of [1, 2]) for (const hostile of [atA, atB]) await sayAll(hostile, id, disk, generation)
    assert.equal((await a.control.showDisk('web01')).state, 'departed')
    assert.equal((await b.control.showDisk('web01')).state, 'arriving')
    assert.deepEqual(
      [(await a.control.showMigration(id)).state, (await b.control.showMigration(id)).state],
      ['copying', 'copying'],
    )
  })
})

/** Each of it must be refused. */
async function sayAll(hostile: HostileSite, migration: string, disk: string, generation: number): Promise<void> {
  const disks = [{ disk, generation }]
  const said: readonly (readonly [string, object])[] = [
    ['acquire', { disks, reason: 'resume', force: true }],
    ['flush', { disk, generation }],
    ['taken', { disks, mark: 1, run }],
    ['extents', { disk, generation, offset: 0, length: 4096 }],
    ['digests', { disk, generation, runs: [{ offset: 0, length: 4096 }] }],
    [
      'progress',
      {
        disks: [{ disk, missing: 0, ...counters, unreadable: [] }],
        paused: true,
        note: 'x',
        rate: 1,
        secondsLeft: 1,
        copyingMs: 1,
      },
    ],
    ['guests', { guests: nobody }],
    ['paused', { paused: true }],
    ['complete', { disks: [{ disk, generation, ...counters, verified: true, differed: [] }], copyingMs: 1 }],
    ['cancelled', {}],
    ['switchover', { force: true }],
    ['pause', { paused: true }],
    ['writers-gone', {}],
  ]
  for (const [method, params] of said) {
    const heard = await hostile.outcome(method, { migration, ...params })
    if (method === 'acquire') assert.match(heard, /"answer":"refused"|^[a-z-]+: /, method)
    else assert.doesNotMatch(heard, /^answered/, method)
  }
  assert.match(await hostile.outcome('standing', { migration }), /"state":"unknown","disks":\[\]|^[a-z-]+: /)
  const runs = [{ offset: 0, length: 4096 }]
  await assert.rejects(hostile.fetch({ migration, disk, generation, runs }))
}
