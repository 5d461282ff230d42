// Sites that lost their key: a key that is gone is not the owner, whatever the records say. What its deed gives to another key is
// served to nobody, and the source of a move takes its disk back without a second writer.

import assert from 'node:assert/strict'
import { copyFileSync, existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { sitesWithData } from './scenes.ts'
import {
  attach,
  begin,
  createDisk,
  endSitesAfterEach,
  folder,
  must,
  refusalOf,
  Site,
  untilDisk,
  untilMigration,
  vmstore,
} from './sites.ts'

const block = 4096
const mebibyte = 2 ** 20
const keyFiles = ['identity.key', 'identity.crt']

describe('a key that is gone', () => {
  endSitesAfterEach()

  it('promise 10: its disks are served to nobody, and keep their bytes; others are served; the key that comes back owns them', async () => {
    const site = await Site.start('osaka')
    await createDisk(site, 'web01', mebibyte)
    const guest = await attach(site, 'web01')
    await guest.write(0, Buffer.alloc(block, 7), { fua: true })
    await guest.disconnect()
    const { fingerprint } = await site.control.describe()
    const kept = await keyLost(site)

    const held = await site.control.showDisk('web01')
    assert.equal(held.state, 'owned')
    assert.match(held.trouble!, new RegExp(`its deed names the key ${fingerprint} as its holder`))
    assert.match(held.trouble!, /Its bytes are safe in .*web01\.raw\. Restore the file identity\.key/)
    assert((await site.control.status()).disks.some(({ trouble }) => trouble === held.trouble))
    assert(site.logged('is served to nobody').length > 0)
    await assert.rejects(NbdClient.connect(site.uri('web01')))
    refusalOf(await vmstore(site, 'disk', 'export', 'web01', join(folder(), 'web01.raw')), 1)
    await createDisk(site, 'db', mebibyte)
    await (await attach(site, 'db')).write(0, Buffer.alloc(block, 1), { fua: true })
    await must(site, 'disk', 'create', 'copy', '--from', held.path)
    assert((await (await attach(site, 'copy')).read(0, block)).equals(Buffer.alloc(block, 7)))

    await kept.restore()
    assert.equal((await site.control.showDisk('web01')).trouble, null)
    assert.match(
      (await site.control.showDisk('db')).trouble!,
      /its deed names the key/,
      'made under the key that is gone now',
    )
    assert((await (await attach(site, 'web01')).read(0, block)).equals(Buffer.alloc(block, 7)))
  })

  it('promises 1, 10: a destination that lost its key in the middle and paired anew serves nobody; the source takes the disk back', async () => {
    const { a, b } = await sitesWithData(4 * mebibyte)
    const { id } = await begin(a, b, 'web01', 'now', { maxRate: 16 * 1024 })
    await untilMigration(a, id, ({ state }) => state === 'copying')
    const writer = await attach(b, 'web01')
    await writer.write(0, Buffer.alloc(block, 9), { fua: true })
    const kept = await keyLost(b)
    const held = await b.control.showDisk('web01')
    assert.match(held.trouble!, /its deed names the key .*the rest is at its source/)
    await assert.rejects(NbdClient.connect(b.uri('web01')))
    // A new peer, to both: it was given nothing.
    const { token } = await a.control.invite({ name: 'tokyo-2' })
    await b.control.join({ token })

    const back = await must(a, 'disk', 'reclaim', 'web01', '--yes')
    assert.deepEqual([back.state, back.generation], ['owned', 3])
    await (await attach(a, 'web01')).write(0, Buffer.alloc(block, 10), { fua: true })
    await assert.rejects(NbdClient.connect(b.uri('web01')))
    await b.kill()
    await b.restart()
    await assert.rejects(NbdClient.connect(b.uri('web01')), 'after a restart neither')

    // The key comes back, and with it the peer that it was: it hears that what it was given was taken back.
    await kept.restore()
    const superseded = await untilDisk(b, 'web01', ({ state }) => state === 'superseded')
    assert.equal(superseded.generation, 3)
    assert(existsSync(superseded.path), 'its bytes are kept')
    assert((await (await attach(a, 'web01')).read(0, block)).equals(Buffer.alloc(block, 10)))
  })
})

/** The site is started without its key, and makes itself another. */
async function keyLost(site: Site): Promise<{ restore(): Promise<void> }> {
  const safe = folder()
  await site.kill()
  for (const name of keyFiles) copyFileSync(join(site.root, name), join(safe, name))
  for (const name of keyFiles) rmSync(join(site.root, name))
  await site.restart()
  return {
    async restore() {
      await site.kill()
      for (const name of keyFiles) copyFileSync(join(safe, name), join(site.root, name))
      await site.restart()
    },
  }
}
