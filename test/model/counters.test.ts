// What a move counts, on two simulated sites: every byte that came, whoever had it fetched.

import assert from 'node:assert/strict'
import type { MigrationCounters } from '../../src/store/records.ts'
import { blocks, diskId, sectors, sizeBytes } from './stage.ts'
import { TwoSites } from './two-sites.ts'

const never = () => new AbortController().signal
const cameOf = ({ data, skippedZero }: MigrationCounters) => data + skippedZero

describe('the counters of a move', () => {
  it('count what guests had fetched on demand', async () => {
    const sites = await TwoSites.start()
    const { a, b } = sites
    const id = await sites.migrate('now')
    await sites.until('B serves', () => sites.record(b)?.state === 'arriving')
    sites.link.up = false
    await sites.drive(b.migrations!.commands.setPaused(id, true, never()))
    sites.link.up = true
    const { arriving } = b.disks!.get(diskId)!
    assert.equal(arriving.missingBlocks, blocks, 'nothing was copied')
    const guest = sites.open(b)
    for (let sector = 0; sector < sectors; sector++) await sites.read(guest, sector)
    assert.equal(arriving.missingBlocks, 0)
    const [course] = b.migrations!.courses()
    assert(course!.counters.data > 0 && course!.counters.skippedZero > 0, JSON.stringify(course!.counters))
    assert.equal(cameOf(course!.counters), sizeBytes)
    await sites.drive(b.migrations!.commands.setPaused(id, false, never()))
    await sites.until('it is over', () => sites.record(b)?.migrationId === null)
    for (const site of [a, b])
      assert.equal(cameOf(site.database.migration.get(id)!.disks[0]!.counters), sizeBytes, site.name)
  })
})
