// A peer that starts the move of a disk which nobody gave it, while a guest works on it: it asks for the move (with the source's
// bytes to be deleted), takes the disk in the operator's name, and says that it has everything.
// Would break promise 10 (a paired peer gets only what it was given), and with it 1 and 8.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { endSitesAfterEach, Site } from '../e2e/sites.ts'
import { HostileSite } from './hostile-site.ts'
import { usualTerms } from './moves.ts'
import { createGuestDisk, Witness } from './witness.ts'

describe('hostile: a peer that takes a running disk', () => {
  endSitesAfterEach()

  const words = [
    { switchover: 'auto', force: false, reason: 'operator' },
    { switchover: 'now', force: true, reason: 'operator' },
    { switchover: 'auto', force: false, reason: 'resume' },
    { switchover: 'manual', force: false, reason: 'guest-write' },
  ] as const
  for (const { switchover, force, reason } of words) {
    it(`promise 10: request ${switchover}${force ? ' by force' : ''}, acquire as ${reason}, taken, complete: nothing of it happens`, async () => {
      const site = await Site.start('osaka')
      const { id, path, generation } = await createGuestDisk(site)
      const witness = await Witness.of(site)
      const hostile = await HostileSite.paired(site)
      hostile.replies['prepare'] = () => ({})
      const terms = { ...usualTerms, switchover, force, sourcePolicy: 'delete' }
      const begun = await hostile.call('request', { disks: ['web01'], terms }).catch(() => undefined)
      const migration = begun?.['migration'] ?? '00000000-0000-4000-8000-000000000001'
      const at = { migration, disks: [{ disk: id, generation: generation + 1 }] }
      const acquired = await hostile.outcome('acquire', { ...at, reason, force: true })
      assert.doesNotMatch(acquired, /granted/)
      const run = '00000000-0000-4000-8000-000000000002'
      await hostile.outcome('taken', { ...at, mark: 1, run })
      const counters = { data: 0, sent: 0, skippedZero: 0, resent: 0, verified: true, differed: [] }
      const disks = [{ disk: id, generation: generation + 1, ...counters }]
      await hostile.outcome('complete', { migration, disks, copyingMs: 0 })
      await witness.unharmed()
      assert(existsSync(path), 'the bytes are there')
      assert.deepEqual(await site.control.listMigrations(), [])
    })
  }
})
