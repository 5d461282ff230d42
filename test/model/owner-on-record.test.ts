// Who owned a disk when its move was over, as both sites have it on record: what migration show says, and the exit code of
// migrate. On two sites in one process.

import assert from 'node:assert/strict'
import { goneOn, peerIdOf } from './keys.ts'
import type { SimSite } from './sim-site.ts'
import { diskId, diskName } from './stage.ts'
import { TwoSites } from './two-sites.ts'

const never = () => new AbortController().signal

const ended = (site: SimSite, id: string) => {
  const record = site.database.migration.get(id)!
  assert.notEqual(record.endedAt, null, `${site.name}: ${record.state}`)
  return [record.state, record.disks[0]!.owner]
}

describe('promise 2: the owner that is on record when a move is over', () => {
  it('done: the destination', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    const id = await sites.migrate('now')
    assert.deepEqual(
      [a, b].map((site) => site.database.migration.get(id)!.disks[0]!.owner),
      ['A', 'A'],
    )
    await sites.until('it is over', () => sites.record(b)?.state === 'owned' && sites.record(b)?.migrationId === null)
    for (const site of [a, b]) assert.deepEqual(ended(site, id), ['done', 'B'], site.name)
  })

  it('cancelled: the source', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    const id = await sites.migrate('manual')
    await sites.drive(b.migrations!.commands.cancel(id, false, never()))
    for (const site of [a, b]) assert.deepEqual(ended(site, id), ['cancelled', 'A'], site.name)
  })

  it('left by force, without the source: nobody knows, if it was asked for the disk and has not answered', async () => {
    for (const isAsked of [true, false]) {
      const sites = await TwoSites.start()
      const { b } = sites
      const id = await sites.migrate('manual')
      await sites.until('B has heard how it stands', () => b.migrations!.courses()[0]?.owner === 'A')
      sites.link.up = false
      if (isAsked) await sites.drive(b.migrations!.commands.switchover(id, true, never()))
      await sites.drive(b.migrations!.commands.cancel(id, true, never()))
      assert.deepEqual(ended(b, id), ['cancelled', isAsked ? 'unknown' : 'A'])
    }
  })

  it('taken back, and superseded: the source, at both', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    const id = await sites.migrate('now')
    await sites.until('B serves', () => sites.record(b)?.state === 'arriving')
    b.kill()
    await sites.drive(a.migrations!.commands.reclaim(diskName, true, never()))
    await sites.drive(b.start())
    await sites.until('B has heard', () => sites.record(b)?.state === 'superseded')
    for (const site of [a, b]) assert.deepEqual(ended(site, id), ['failed', 'A'], site.name)
  })

  it('taken back while the destination had ended it by force: the source, as soon as that is heard', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    const id = await sites.migrate('now')
    await sites.until('B owns', () => sites.record(b)?.state === 'owned')
    a.kill()
    await sites.drive(b.migrations!.commands.cancel(id, true, never()))
    assert.deepEqual(ended(b, id), ['done', 'B'], 'as far as it knows')
    b.kill()
    await sites.drive(a.start())
    await sites.drive(a.migrations!.commands.reclaim(diskName, true, never()))
    await sites.drive(b.start())
    await sites.until('B has heard', () => b.database.migration.get(id)!.sourceTold)
    assert.equal(sites.record(b)?.state, 'superseded')
    assert.match(b.database.migration.get(id)!.note!, /generation 3 of the disk exists at A/)
    for (const site of [a, b]) assert.deepEqual(ended(site, id), ['failed', 'A'], site.name)
  })

  it('superseded by what was its own once, at an old copy of the site: nobody', async () => {
    const sites = await TwoSites.start()
    const { a } = sites
    const id = await sites.migrate('manual')
    const deed = goneOn(a.disks!.get(diskId)!.record.deed!, 5, 'A')
    await sites.drive(a.migrations!.generations.heed(peerIdOf('B'), deed))
    await sites.until('A has heeded it', () => sites.record(a)?.state === 'superseded')
    assert.deepEqual(ended(a, id), ['failed', 'unknown'])
    assert.deepEqual(sites.standing(a), ['superseded', 5, 'unknown'])
  })
})
