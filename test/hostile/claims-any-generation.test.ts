// A peer that claims generations of disks which are none of its own, by number (as link protocol 2 had it) and by deeds that it does
// not have: the next one, a far one, the last that there is. Then it offers other content under the same id.
// Would break promise 10, and 1: a disk that no site serves any more, or another's bytes under its name.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { largestGeneration } from '../../src/disk/states.ts'
import { begin, endSitesAfterEach, Site, twoSites, untilMigration } from '../e2e/sites.ts'
import { HostileSite } from './hostile-site.ts'
import { offered, preparation } from './moves.ts'
import { createGuestDisk, standing, Witness } from './witness.ts'

describe('hostile: a peer that claims generations', () => {
  endSitesAfterEach()

  for (const ahead of [1, 1000, largestGeneration]) {
    it(`promise 10: ${ahead === largestGeneration ? 'the last generation' : `${ahead} ahead`} is not believed as a number, and the disk does not come back with other content`, async () => {
      const site = await Site.start('osaka')
      const { id, generation } = await createGuestDisk(site)
      const witness = await Witness.of(site)
      const hostile = await HostileSite.paired(site)
      const claimed = Math.min(generation + ahead, largestGeneration)
      await hostile.outcome('generations', { claims: claimsOf(id, claimed) })
      await witness.goesOn()
      const back = offered({ id, name: 'web01', sizeBytes: 4 * 2 ** 20, generation: claimed })
      assert.doesNotMatch(await hostile.outcome('prepare', preparation([back])), /^answered/)
      await witness.unharmed()
    })
  }

  it('promise 10: a peer says so of itself when it is asked, at a start of its victim', async () => {
    const site = await Site.start('osaka')
    const { id, generation } = await createGuestDisk(site)
    const hostile = await HostileSite.paired(site)
    hostile.replies['generations'] = () => ({ claims: claimsOf(id, generation + 1) })
    await site.stop()
    await site.restart()
    await hostile.connected()
    await hostile.asked('generations')
    const witness = await Witness.of(site)
    await witness.unharmed()
  })

  it('promise 8: the bytes that a released copy has kept are not overwritten by a peer that offers the same id', async () => {
    const { a, b } = await twoSites()
    const { id: disk, size } = await createGuestDisk(a)
    const { id } = await begin(a, b, 'web01', 'now')
    await untilMigration(a, id, ({ state }) => state === 'done')
    const before = await a.control.showDisk('web01')
    const bytes = readFileSync(before.path)
    const hostile = await HostileSite.paired(a)
    for (const generation of [before.generation, before.generation + 1, largestGeneration - 1]) {
      const offer = preparation([offered({ id: disk, name: 'web01', sizeBytes: size, generation })])
      assert.doesNotMatch(await hostile.outcome('prepare', offer), /^answered/)
    }
    const after = await a.control.showDisk('web01')
    assert.deepEqual(standing(after), standing(before))
    assert(readFileSync(after.path).equals(bytes), 'the bytes that were kept')
  })
})

function claimsOf(disk: string, generation: number) {
  return [{ disk, generation, owner: 'site-0123456789abcdef', head: 'f'.repeat(64), length: generation }]
}
