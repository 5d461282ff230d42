// A peer that offers a disk of its own under the id of a move that its victim knows: one that is past, one that is under way with
// another peer, at either side. Would break promises 1, 2 and 10: the record of that move is what the victim knows of who owns.

import assert from 'node:assert/strict'
import { begin, endSitesAfterEach, twoSites, untilDisk, untilMigration } from '../e2e/sites.ts'
import { HostileSite } from './hostile-site.ts'
import { offered, preparation } from './moves.ts'
import { createGuestDisk, standing, Witness } from './witness.ts'

describe('hostile: a peer that reuses the id of a move', () => {
  endSitesAfterEach()

  it('promise 2: of one that is past: refused, its record stays, and the victim has no new disk', async () => {
    const { a, b } = await twoSites()
    await createGuestDisk(a)
    const { id } = await begin(a, b, 'web01', 'now')
    await untilMigration(a, id, ({ state }) => state === 'done')
    await untilMigration(b, id, ({ state }) => state === 'done')
    for (const site of [a, b]) {
      const before = [await site.control.listMigrations(), (await site.control.listDisks()).map(standing)]
      const hostile = await HostileSite.paired(site)
      assert.doesNotMatch(await hostile.outcome('prepare', preparation([offered()], id)), /^answered/)
      await site.stop()
      await site.restart()
      const after = [await site.control.listMigrations(), (await site.control.listDisks()).map(standing)]
      assert.deepEqual(withoutLinks(after), withoutLinks(before))
    }
  })

  it('promise 2: of one that is under way with another peer: refused at both sites, and the move goes on to its end', async () => {
    const { a, b } = await twoSites()
    await createGuestDisk(a)
    const { id } = await begin(a, b, 'web01', 'manual')
    await untilMigration(b, id, ({ state }) => state === 'ready')
    for (const site of [a, b]) {
      const hostile = await HostileSite.paired(site)
      const disks = (await site.control.listDisks()).length
      assert.doesNotMatch(await hostile.outcome('prepare', preparation([offered()], id)), /^answered/)
      assert.equal((await site.control.listDisks()).length, disks)
    }
    const witness = await Witness.of(a)
    await witness.unharmed()
    await a.control.switchover(id, { force: true })
    await untilMigration(a, id, ({ state }) => state === 'done')
    await untilDisk(b, 'web01', ({ state, generation }) => state === 'owned' && generation === 2)
  })
})

/** What differs from one look to the next, though nothing has changed. */
function withoutLinks(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (key, each) => (key === 'link' ? undefined : each)))
}
