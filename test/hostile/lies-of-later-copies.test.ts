// A source that gave its disk away, and lets its destination know, again and again, that it is not the owner: that it was restored from
// an old copy, that the disk was taken back, that a far later generation exists, in refusals of whatever it is asked.
// Would break promise 1: no site stops serving on a word that no deed carries.

import assert from 'node:assert/strict'
import { largestGeneration } from '../../src/disk/states.ts'
import { PeerRefusal } from '../../src/link/channel.ts'
import { attach, endSitesAfterEach, Site, until, untilDisk, untilMigration } from '../e2e/sites.ts'
import { HostileSite } from './hostile-site.ts'
import { OwnDisk } from './own-disk.ts'
import { standing } from './witness.ts'

const asked = ['taken', 'progress', 'extents', 'digests', 'guests', 'paused'] as const

describe('hostile: a source that tells of later copies', () => {
  endSitesAfterEach()

  const lies: readonly (readonly [string, string, (disk: OwnDisk) => object | undefined])[] = [
    ['restored from an old copy', 'restored', () => undefined],
    [
      'restored, and later there',
      'restored',
      ({ id }) => ({ disks: [{ disk: id, generation: 9, owner: 'site-0123456789abcdef' }] }),
    ],
    ['taken back', 'superseded', () => ({ generation: 3, owner: 'site-0123456789abcdef' })],
    [
      'taken back, by its id',
      'superseded',
      ({ id }) => ({ disks: [{ disk: id, generation: largestGeneration, owner: 'unknown' }] }),
    ],
  ]
  for (const [what, code, facts] of lies) {
    it(`promise 1: a guest that is served is served on, though the source says: ${what}`, async () => {
      const site = await Site.start('osaka')
      const hostile = await HostileSite.paired(site)
      const disk = new OwnDisk(hostile)
      await disk.prepare({ maxRate: 64 * 1024 })
      await writesAt(site)
      await untilDisk(site, 'web01', ({ state }) => state === 'arriving')
      let lies = 0
      const lie = () => {
        lies++
        throw new PeerRefusal(code, 'a later generation is elsewhere', facts(disk))
      }
      for (const method of asked) hostile.replies[method] = lie
      hostile.pieces = lie
      // Until it has lied often enough, or once was enough.
      const look = async () => (await site.control.showDisk('web01')).state
      await until('the source has lied', async () => (lies >= 4 || (await look()) !== 'arriving' ? true : undefined))
      const { state, generation } = standing(await site.control.showDisk('web01'))
      assert.deepEqual([state, generation], ['arriving', 2])
      await writesAt(site)
      // An honest source again: everything is to be had.
      disk.isHonest()
      const guest = await attach(site, 'web01')
      assert((await guest.read(8192, 4096)).equals(disk.bytes.subarray(8192, 8192 + 4096)))
    })
  }

  it('promise 1: nor by the word that this very site has signed, shown again when it has just started anew', async () => {
    const site = await Site.start('osaka')
    const hostile = await HostileSite.paired(site)
    const disk = new OwnDisk(hostile)
    await disk.prepare({ maxRate: 64 * 1024 })
    await writesAt(site)
    await hostile.asked('taken')
    await site.stop()
    const { mark, run, signature } = hostile.heard.findLast(({ method }) => method === 'taken')!.params
    const facts = { mark, run, markSigned: signature, completeSigned: null }
    let lies = 0
    const lie = () => {
      lies++
      throw new PeerRefusal('restored', 'that site was further once', facts)
    }
    for (const method of [...asked, 'inquire', 'complete', 'generations']) hostile.replies[method] = lie
    hostile.pieces = lie
    await site.restart()
    await hostile.connected()
    const look = async () => (await site.control.showDisk('web01')).state
    await until('the source has lied', async () => (lies >= 6 || (await look()) !== 'arriving' ? true : undefined))
    assert.equal(await look(), 'arriving')
    await writesAt(site)
  })

  it('promise 1: nor by its signed word that everything is there, shown to it when it is', async () => {
    const site = await Site.start('osaka')
    const hostile = await HostileSite.paired(site)
    const disk = new OwnDisk(hostile)
    await disk.prepare()
    let lies = 0
    hostile.replies['complete'] = ({ signature }) => {
      lies++
      const { mark, run, signature: markSigned } = hostile.heard.findLast(({ method }) => method === 'taken')!.params
      const facts = { mark, run, markSigned, completeSigned: signature }
      throw new PeerRefusal('restored', 'that site was further once', facts)
    }
    await writesAt(site)
    const look = async () => (await site.control.showDisk('web01')).state
    await until('the source has lied', async () => (lies >= 3 || (await look()) === 'superseded' ? true : undefined))
    assert.equal(await look(), 'owned')
    await writesAt(site)
    disk.isHonest()
    await untilMigration(site, disk.migration, ({ state }) => state === 'done')
  })
})

/** A write of a guest is answered. */
async function writesAt(site: Site): Promise<void> {
  const guest = await attach(site, 'web01')
  await guest.write(0, Buffer.alloc(4096, 7))
  await guest.flush()
  await guest.disconnect()
}
