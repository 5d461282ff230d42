// A peer that places disks here without end: hundreds of them, the largest that there are, of which it says that they take no room;
// under the names of the operator's own. Would break promise 11: a growth in memory, and an effect on others.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { largestDiskBytes } from '../../src/disk/disk-name.ts'
import { endSitesAfterEach, Site } from '../e2e/sites.ts'
import { HostileSite } from './hostile-site.ts'
import { OwnDisk } from './own-disk.ts'
import { createGuestDisk, Witness } from './witness.ts'

const attempts = 200
/** Of memory that the daemon may take more; a disk of 1 PiB took 130 MiB once. */
const mostMoreBytes = 300 * 2 ** 20

describe('hostile: a peer that places disks without end', () => {
  endSitesAfterEach()

  it('promise 11: it is refused in time, the daemon stays small, and the guest of another disk goes on', async function () {
    this.timeout(600_000)
    const site = await Site.start('osaka')
    await createGuestDisk(site)
    const witness = await Witness.of(site)
    const hostile = await HostileSite.paired(site)
    const before = residentBytes(site)
    const refused: string[] = []
    for (let index = 0; index < attempts && refused.length < 20; index++) {
      const disk = new OwnDisk(hostile, `filler-${index}`, largestDiskBytes)
      await disk.prepare().catch((error: Error) => refused.push(error.message))
    }
    assert.equal(refused.length, 20, `all ${attempts} were taken`)
    const more = residentBytes(site) - before
    assert(more < mostMoreBytes, `${Math.round(more / 2 ** 20)} MiB more`)
    await witness.unharmed()
  })

  it('promise 10: a name that the operator has used is not had, and the disk of that name stays', async () => {
    const site = await Site.start('osaka')
    await createGuestDisk(site)
    const witness = await Witness.of(site)
    const hostile = await HostileSite.paired(site)
    await assert.rejects(new OwnDisk(hostile, 'web01').prepare())
    await witness.unharmed()
    assert.equal((await site.control.listDisks()).length, 1)
  })
})

function residentBytes({ pid }: Site): number {
  const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(kibibytes![1]) * 1024
}
