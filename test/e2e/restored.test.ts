// Sites whose data folder was put back to an old copy, as a backup or a snapshot of the machine would: they hear from their
// peer that they are old before they serve anybody. test/model/fence.test.ts has the other cases.

import assert from 'node:assert/strict'
import { cpSync, lstatSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { sitesWithData, sitesWithDisk } from './scenes.ts'
import {
  attach,
  begin,
  endSitesAfterEach,
  folder,
  must,
  refusalOf,
  refusedWith,
  type Site,
  until,
  untilDisk,
  untilMigration,
  vmstore,
} from './sites.ts'

const block = 4096
const mebibyte = 2 ** 20

describe('a site restored from an old copy of its data folder', () => {
  endSitesAfterEach()

  it('promise 1: a source from before the move serves nobody, and says who owns', async () => {
    const { a, b } = await sitesWithDisk(mebibyte)
    const restore = await copied(a)
    const { id } = await begin(a, b, 'web01', 'now')
    await untilMigration(a, id, ({ state }) => state === 'done')
    await restore()
    const shown = await a.control.showDisk('web01')
    assert.deepEqual([shown.state, shown.generation, shown.ownerName], ['superseded', 2, 'tokyo'])
    assert(a.logged('a peer has a deed that goes further').length > 0)
    await servesNobody(a)
    await (await attach(b, 'web01')).write(0, Buffer.alloc(block, 1))
  })

  it('a source from the middle of the move names the destination as owner in migration show too', async () => {
    const { a, b } = await sitesWithData(8 * mebibyte)
    const manual = ['--mode', 'post-copy', '--switchover', 'manual', '--max-rate', '64K']
    const watched = vmstore(a, 'migrate', 'web01', '--to', b.name, ...manual)
    const { id } = await until('the move', async () => (await b.control.listMigrations())[0])
    await untilMigration(a, id, ({ state }) => state === 'ready')
    const restore = await copied(a)
    await untilMigration(b, id, ({ link }) => link.state === 'up')
    await must(b, 'migration', 'switchover', id)
    await untilMigration(a, id, ({ state }) => state === 'copying')
    const { id: siteB } = await b.control.describe()
    await restore()
    await untilDisk(a, 'web01', ({ state }) => state === 'superseded')
    const { state, owner, ownerName, ownerSide } = await untilMigration(a, id, (view) => view.state === 'failed')
    assert.deepEqual([state, owner, ownerName, ownerSide], ['failed', siteB, 'tokyo', 'destination'])
    assert.match(refusalOf(await watched, 5, 'migration-failed').safe!, /The destination, tokyo, owns web01/)
  })

  it('promise 1: a destination from an earlier moment of the copy serves nobody; the source takes the disk back', async () => {
    const { a, b } = await sitesWithData(8 * mebibyte)
    const watched = vmstore(b, 'migrate', 'web01', '--from', a.name, '--switchover', 'now', '--max-rate', '64K')
    const { id } = await until('the move', async () => (await b.control.listMigrations())[0])
    await untilMigration(b, id, ({ state }) => state === 'copying')
    const restore = await copied(b)
    const writer = await attach(b, 'web01')
    await writer.write(0, Buffer.alloc(block, 9), { fua: true })
    await writer.disconnect()
    await restore()
    const shown = await untilDisk(b, 'web01', ({ state }) => state === 'superseded')
    assert.deepEqual([shown.generation, shown.owner], [2, 'unknown'])
    assert.match((await b.control.showMigration(id)).note!, /restored from an old copy/)
    await servesNobody(b)
    refusalOf(await watched, 6, 'owner-unknown')
    const back = await must(a, 'disk', 'reclaim', 'web01', '--yes')
    assert.deepEqual([back.state, back.generation], ['owned', 3])
    assert((await (await attach(a, 'web01')).read(0, block)).equals(Buffer.alloc(block, 7)))
  })
})

/** Copies the data folder of a site that is stopped for it, and goes on. The result puts the copy back, and starts the site. */
async function copied(site: Site): Promise<() => Promise<void>> {
  const copy = join(folder(), 'copy')
  const isNoSocket = (path: string) => !lstatSync(path).isSocket()
  await site.stop()
  cpSync(site.root, copy, { recursive: true, filter: isNoSocket })
  await site.restart()
  return async () => {
    await site.kill()
    rmSync(site.root, { recursive: true })
    cpSync(copy, site.root, { recursive: true })
    await site.restart()
  }
}

async function servesNobody(site: Site): Promise<void> {
  const stray = await NbdClient.connect(site.uri('web01')).catch(() => undefined)
  if (!stray) return
  await refusedWith('ESHUTDOWN', stray.read(0, block))
  await refusedWith('ESHUTDOWN', stray.write(0, Buffer.alloc(block)))
  await stray.disconnect()
}
