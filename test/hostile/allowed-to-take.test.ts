// A peer that may take one disk by migrate --from, and wants more: another disk, the bytes of the source deleted, the guest cut off, the
// disk at once. Would break promise 10: what decides over bytes and guests comes from the owner's operator alone.

import assert from 'node:assert/strict'
import { endSitesAfterEach, must, Site, untilMigration } from '../e2e/sites.ts'
import { HostileSite } from './hostile-site.ts'
import { usualTerms } from './moves.ts'
import { createGuestDisk, Witness } from './witness.ts'

describe('hostile: a peer that is allowed to take a disk', () => {
  endSitesAfterEach()

  it('promise 10: begins its move, and gets neither more nor sooner than its owner has said', async () => {
    const site = await Site.start('osaka')
    const { id: disk } = await createGuestDisk(site)
    await createGuestDisk(site, 'web02')
    const witness = await Witness.of(site, 'web02')
    const hostile = await HostileSite.paired(site)
    hostile.replies['prepare'] = () => ({})
    await must(site, 'peer', 'allow', hostile.name, '--take', 'web01')
    const ask = (disks: string[], terms: object = {}) =>
      hostile.outcome('request', { disks, terms: { ...usualTerms, ...terms } })
    for (const [disks, terms] of [
      [['web02'], {}],
      [['web01', 'web02'], {}],
      [['web01'], { sourcePolicy: 'delete' }],
      [['web01'], { switchover: 'now' }],
      [['web01'], { switchover: 'now', force: true }],
      [['web01'], { force: true }],
    ] as const)
      assert.doesNotMatch(await ask([...disks], terms), /^answered/, `${disks} ${JSON.stringify(terms)}`)
    const [there, absent] = [await ask(['web02']), await ask(['no-disk'])]
    assert.equal(there.replaceAll('web02', 'no-disk'), absent)
    assert.deepEqual(await site.control.listMigrations(), [])

    const guest = await Witness.of(site, 'web01')
    const begun = await hostile.call('request', { disks: ['web01'], terms: usualTerms })
    const migration = String(begun['migration'])
    await untilMigration(site, migration, ({ state }) => state === 'ready')
    const asked = { migration, disks: [{ disk, generation: 2 }], force: true }
    for (const reason of ['operator', 'resume', 'reader-only', 'guest-write'])
      assert.doesNotMatch(await hostile.outcome('acquire', { ...asked, reason }), /"granted"/, reason)
    await guest.goesOn()
    assert.equal((await site.control.showDisk('web01')).state, 'owned')
    await site.control.cancel(migration, {})
    await witness.unharmed()
  })

  it('promise 10: does not any more, once it was taken back', async () => {
    const site = await Site.start('osaka')
    await createGuestDisk(site)
    const hostile = await HostileSite.paired(site)
    hostile.replies['prepare'] = () => ({})
    await must(site, 'peer', 'allow', hostile.name, '--take', '*', '--give')
    await must(site, 'peer', 'allow', hostile.name, '--take', '*', '--revoke')
    const terms = { ...usualTerms, switchover: 'now' }
    assert.doesNotMatch(await hostile.outcome('request', { disks: ['web01'], terms }), /^answered/)
    assert.deepEqual(await site.control.listMigrations(), [])
  })
})
