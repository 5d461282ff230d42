// A destination that was given a disk, for when its machine has moved, and does not wait for that: it asks in the operator's name,
// with force, or as if it had been granted the disk before, while the guest works at the source.
// Would break promises 1 and 10: what decides over bytes and guests comes from the owner's operator alone.

import assert from 'node:assert/strict'
import { endSitesAfterEach, Site } from '../e2e/sites.ts'
import { HostileSite } from './hostile-site.ts'
import { givenTo } from './moves.ts'
import { createGuestDisk, Witness } from './witness.ts'

describe("hostile: a destination that claims the operator's word", () => {
  endSitesAfterEach()

  for (const switchover of ['auto', 'manual'] as const) {
    it(`promise 10: given a disk by a move ${switchover}, it does not get it while the guest works at the source`, async () => {
      const site = await Site.start('osaka')
      const { id: disk, generation } = await createGuestDisk(site)
      const hostile = await HostileSite.paired(site)
      const { id: migration } = await givenTo(hostile, site, 'web01', { switchover })
      const witness = await Witness.of(site)
      for (const reason of ['guest-write', 'reader-only', 'operator', 'resume'] as const)
        for (const force of [false, true])
          assert.doesNotMatch(
            await hostile.outcome('acquire', {
              migration,
              disks: [{ disk, generation: generation + 1 }],
              reason,
              force,
            }),
            /"granted"/,
            `${reason}${force ? ' by force' : ''}`,
          )
      await witness.unharmed()
      await site.control.cancel(migration, {})
    })
  }

  it('promise 10: of a move by hand it is not granted an idle disk either, before the operator at the source says so', async () => {
    const site = await Site.start('osaka')
    const { id: disk, generation } = await createGuestDisk(site)
    const hostile = await HostileSite.paired(site)
    const { id: migration } = await givenTo(hostile, site, 'web01', { switchover: 'manual' })
    const asked = { migration, disks: [{ disk, generation: generation + 1 }] }
    for (const reason of ['operator', 'resume'] as const)
      assert.doesNotMatch(await hostile.outcome('acquire', { ...asked, reason, force: true }), /"granted"/, reason)
    assert.equal((await site.control.showDisk('web01')).state, 'owned')
  })
})
