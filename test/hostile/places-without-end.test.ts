// A peer that places disks here without end: hundreds of them, the largest that there are, of which it says that they take no room;
// under the names of the operator's own. Would break promise 11: a growth in memory, and an effect on others.

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { largestDiskBytes } from '../../src/disk/disk-name.ts'
import { afterwards, endSitesAfterEach, Site } from '../e2e/sites.ts'
import { HostileSite } from './hostile-site.ts'
import { OwnDisk } from './own-disk.ts'
import { createGuestDisk, Witness } from './witness.ts'

/** Files there may be as large as a disk; ext4 has none over 16 TiB. */
const roomyFolder = '/dev/shm'
const attempts = 200
const refusals = 5
/** Of memory that the daemon may take more; a disk of 1 PiB took 130 MiB once. */
const mostMoreBytes = 300 * 2 ** 20

describe('hostile: a peer that places disks without end', () => {
  endSitesAfterEach()

  it('promise 11: it is refused in time, the daemon stays small, and the guest of another disk goes on', async function () {
    this.timeout(600_000)
    const root = mkdtempSync(`${roomyFolder}/vms-`)
    const site = await Site.start('osaka', { root })
    afterwards(async () => {
      await site.kill()
      rmSync(root, { recursive: true })
    })
    await createGuestDisk(site)
    const witness = await Witness.of(site)
    const hostile = await HostileSite.paired(site)
    const before = residentBytes(site)
    const more = () => residentBytes(site) - before
    const refused: string[] = []
    for (let index = 0; index < attempts && refused.length < refusals && more() < mostMoreBytes; index++) {
      const disk = new OwnDisk(hostile, { name: `filler-${index}`, saysBytes: largestDiskBytes })
      await disk.prepare().catch((error: Error) => refused.push(error.message))
    }
    assert(more() < mostMoreBytes, `${Math.round(more() / 2 ** 20)} MiB more`)
    assert.equal(refused.length, refusals, `of ${attempts}; ${refused[0]}`)
    await witness.unharmed()
  })

  it('promise 10: a name that the operator has used is not had, and the disk of that name stays', async () => {
    const site = await Site.start('osaka')
    await createGuestDisk(site)
    const witness = await Witness.of(site)
    const hostile = await HostileSite.paired(site)
    await assert.rejects(new OwnDisk(hostile).prepare())
    await witness.unharmed()
    assert.equal((await site.control.listDisks()).length, 1)
  })
})

function residentBytes({ pid }: Site): number {
  const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(kibibytes![1]) * 1024
}
