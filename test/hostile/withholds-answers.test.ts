// A peer that is connected, hears what it is asked, and does not answer, or always says no: when a move is cancelled by force, a
// disk deleted, the peer removed. Would break promises 2 and 10: what is this site's own is in the hands of another.

import assert from 'node:assert/strict'
import { attach, endSitesAfterEach, must, Site, until } from '../e2e/sites.ts'
import { HostileSite, type Reply, withheld } from './hostile-site.ts'
import { givenTo } from './moves.ts'
import { OwnDisk } from './own-disk.ts'
import { createGuestDisk } from './witness.ts'

const saysNo: Reply = () => ({ cancelled: false, message: 'it goes on' })

describe('hostile: a peer that withholds its answers', () => {
  endSitesAfterEach()

  for (const [how, reply] of [
    ['never answers', withheld],
    ['says no', saysNo],
  ] as const) {
    it(`a move from a source that ${how} is cancelled by force, and its disk is gone`, async () => {
      const site = await Site.start('osaka')
      const hostile = await HostileSite.paired(site)
      const disk = new OwnDisk(hostile)
      await disk.prepare()
      Object.assign(hostile.replies, { inquire: withheld, cancel: reply })
      await must(site, 'migration', 'cancel', disk.migration, '--force')
      await until('the disk is gone', async () => ((await site.control.listDisks()).length === 0 ? true : undefined))
    })
  }

  it('a move from a source that was asked for its disk, and does not answer, is cancelled by force', async () => {
    const site = await Site.start('osaka')
    const hostile = await HostileSite.paired(site)
    const disk = new OwnDisk(hostile)
    await disk.prepare()
    Object.assign(hostile.replies, { inquire: withheld, cancel: saysNo, acquire: withheld })
    const guest = await attach(site, 'web01')
    const held = guest.write(0, Buffer.alloc(4096, 7)).catch((error: Error) => error)
    await hostile.asked('acquire')
    await must(site, 'migration', 'cancel', disk.migration, '--force')
    assert((await held) instanceof Error)
    await guest.disconnect()
    await until('the disk is gone', async () => ((await site.control.listDisks()).length === 0 ? true : undefined))
  })

  it('a peer to which a disk is on its way is removed by force, and the guest of that disk goes on', async () => {
    const site = await Site.start('osaka')
    await createGuestDisk(site)
    const hostile = await HostileSite.paired(site)
    await givenTo(hostile, site, 'web01')
    for (const method of ['cancelled', 'switchover', 'pause', 'standing', 'generations'])
      hostile.replies[method] = withheld
    const guest = await attach(site, 'web01')
    await must(site, 'peer', 'remove', hostile.name, '--force')
    await guest.write(0, Buffer.alloc(4096, 7))
    const { state, generation, migration } = await site.control.showDisk('web01')
    assert.deepEqual([state, generation, migration], ['owned', 1, null])
    assert.deepEqual(await site.control.listPeers(), [])
    await guest.disconnect()
    await must(site, 'disk', 'delete', 'web01')
  })

  it('a peer from which a disk is on its way is removed by force, and the disk is gone', async () => {
    const site = await Site.start('osaka')
    const hostile = await HostileSite.paired(site)
    await new OwnDisk(hostile).prepare()
    Object.assign(hostile.replies, { inquire: withheld, cancel: saysNo })
    await must(site, 'peer', 'remove', hostile.name, '--force')
    assert.deepEqual(await site.control.listPeers(), [])
    await until('the disk is gone', async () => ((await site.control.listDisks()).length === 0 ? true : undefined))
  })
})
