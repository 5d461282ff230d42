// A destination that is lost for good: the disk is taken back at the source, above the generation that was given away.

import assert from 'node:assert/strict'
import { sitesWithData, sitesWithDisk } from './scenes.ts'
import {
  attach,
  begin,
  endSitesAfterEach,
  must,
  type Ran,
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
const sizeBytes = 16 * mebibyte

describe('disk reclaim', () => {
  endSitesAfterEach()

  it('takes back a departed disk whose destination is lost; one that comes back all the same is superseded', async () => {
    const { a, b, id, watched } = await copyingDisk()
    const guest = await attach(b, 'web01')
    await guest.write(0, Buffer.alloc(block, 9))
    await guest.flush()
    assert.match(
      refusalOf(await vmstore(a, 'disk', 'reclaim', 'web01', '--yes'), 3, 'destination-answers').message,
      /tokyo answers: it has generation 2, copying/,
    )
    await b.kill()
    await a.kill() // The file of a departed disk is opened for reading only.
    await a.restart()

    const question = refusalOf(await vmstore(a, 'disk', 'reclaim', 'web01'), 3, 'not-confirmed')
    assert.match(question.message, /loses all that its guest wrote at tokyo since/)
    assert.equal((await a.control.showDisk('web01')).state, 'departed')
    const left = await attach(a, 'web01')
    refusalOf(await vmstore(a, 'disk', 'reclaim', 'web01', '--yes'), 3, 'disk-in-use')
    await left.disconnect()
    await untilDisk(a, 'web01', ({ sessions }) => sessions === 0)

    const taken = await must(a, 'disk', 'reclaim', 'web01', '--yes')
    const { id: siteA } = await a.control.describe()
    assert.deepEqual([taken.state, taken.generation, taken.owner, taken.migration], ['owned', 3, siteA, null])
    const ended = await a.control.showMigration(id)
    assert.deepEqual([ended.state, ended.owner, ended.ownerSide], ['failed', siteA, 'source'])
    assert.match(refusalOf(await watched, 4, 'migration-failed').safe!, /The source, this site, owns web01/)
    refusalOf(await vmstore(a, 'disk', 'reclaim', 'web01', '--yes'), 3, 'not-departed')
    const old = await attach(a, 'web01')
    assert((await old.read(0, block)).equals(Buffer.alloc(block, 7)), 'the bytes from before switchover')
    await old.write(0, Buffer.alloc(block, 10))
    await old.flush()
    await a.kill()
    await a.restart()

    await b.restart()
    const superseded = await untilDisk(b, 'web01', ({ state }) => state === 'superseded')
    assert.deepEqual([superseded.generation, superseded.owner, superseded.migration], [3, siteA, null])
    const stray = await attach(b, 'web01').catch(() => undefined)
    if (stray) await refusedWith('ESHUTDOWN', stray.write(0, Buffer.alloc(block)))
    const void_ = await b.control.showMigration(id)
    assert.deepEqual([void_.state, void_.owner, void_.ownerSide], ['failed', siteA, 'source'])
    assert(superseded.allocated > 0, 'its file is there, and takes room')
    await b.kill()
    await b.restart()
    assert.equal((await b.control.showDisk('web01')).state, 'superseded')

    const again = await begin(a, b, 'web01', 'now')
    await untilMigration(b, again.id, ({ state }) => state === 'done')
    assert((await (await attach(b, 'web01')).read(0, block)).equals(Buffer.alloc(block, 10)))
  })

  it('refuses a disk that this site owns, has never had, or was released', async () => {
    const { a, b } = await sitesWithDisk(mebibyte)
    refusalOf(await vmstore(a, 'disk', 'reclaim', 'web01', '--yes'), 3, 'not-departed')
    refusalOf(await vmstore(a, 'disk', 'reclaim', 'nothing', '--yes'), 3, 'disk-unknown')
    const { id } = await begin(a, b, 'web01', 'now')
    await untilMigration(a, id, ({ state }) => state === 'done')
    await b.kill()
    assert.match(refusalOf(await vmstore(a, 'disk', 'reclaim', 'web01', '--yes'), 3, 'not-departed').next!, /old/)
  })
})

/** A disk full of sevens, a part of which has been copied from A to B. */
async function copyingDisk(): Promise<{ a: Site; b: Site; id: string; watched: Promise<Ran> }> {
  const { a, b } = await sitesWithData(sizeBytes)
  const watched = vmstore(a, 'migrate', 'web01', '--to', b.name, '--switchover', 'now', '--max-rate', '64K')
  const { id } = await until('the move', async () => (await b.control.listMigrations())[0])
  await untilMigration(b, id, ({ state }) => state === 'copying')
  return { a, b, id, watched }
}
