// Storage that fails below a real daemon: syncs of an owned and of an arriving disk, and reads of a disk that is moved away.

import assert from 'node:assert/strict'
import { randomFillSync } from 'node:crypto'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { type FailingFile, failingFiles, failingStorage, fileThroughFuse } from './failing-storage.ts'
import {
  afterwards,
  attach,
  begin,
  createDisk,
  endSitesAfterEach,
  fetchRest,
  must,
  pair,
  readAll,
  refusalOf,
  refusedWith,
  Site,
  untilDisk,
  untilMigration,
  vmstore,
} from './sites.ts'

const mebibyte = 2 ** 20
const block = 4096
const sizeBytes = 8 * mebibyte
const bad = { offset: 3 * mebibyte, length: 2 * block }

describe('storage that fails', () => {
  endSitesAfterEach()
  removeFoldersAfterEach()

  for (const kind of Object.keys(failingFiles)) {
    it(`promise 6, ${kind}: a failed sync is answered with EIO, and final: also for the next daemon, until the disk is accepted`, async function () {
      const { site, file } = await servedFile(this, kind)
      const guest = await attach(site, 'web01')
      await guest.write(0, Buffer.alloc(block, 1), { fua: true })
      await guest.write(block, Buffer.alloc(block, 2))
      file.syncs.begin()
      await refusedWith('EIO', guest.flush())
      await takesNoWrites(site)
      await guest.disconnect()

      await site.kill()
      await site.restart()
      await takesNoWrites(site)
      refusalOf(await vmstore(site, 'disk', 'accept', 'web01', '--yes'), 3, 'not-accepted')
      await file.syncs.end()
      await takesNoWrites(site)
      refusalOf(await vmstore(site, 'disk', 'accept', 'web01'), 3, 'not-confirmed')
      await must(site, 'disk', 'accept', 'web01', '--yes')
      await takesWrites(site)
      await site.kill()
      await site.restart()
      await takesWrites(site)
    })

    it(`promise 6, ${kind}: a flush at the destination, before it owns, fails when the source cannot sync`, async function () {
      const { site: a, file } = await servedFile(this, kind)
      const b = await Site.start('tokyo')
      await pair(a, b)
      const guest = await attach(a, 'web01')
      await guest.write(0, Buffer.alloc(block, 1))
      await begin(a, b, 'web01', 'auto')
      const there = await attach(b, 'web01')
      await there.flush()
      await guest.write(0, Buffer.alloc(block, 2))
      file.syncs.begin()
      await refusedWith('EIO', there.flush())
      await refusedWith('EIO', there.flush())
      assert.match((await a.control.showDisk('web01')).trouble!, /a sync failed/)
    })

    it(`promise 8, ${kind}: a move goes on past a range that the source cannot read, names it, and releases nothing before it can`, async function () {
      const { site: a, file, content } = await servedFile(this, kind)
      const b = await Site.start('tokyo')
      await pair(a, b)
      file.reads.begin()
      const { id } = await begin(a, b, 'web01', 'now')
      const stuck = await untilMigration(
        a,
        id,
        ({ unreadable, bytes }) => unreadable.length > 0 && bytes.missing === bad.length,
      )
      assert.deepEqual([stuck.unreadable, stuck.verified], [[bad], false])
      const there = await b.control.showMigration(id)
      assert.deepEqual(there.unreadable, [bad])
      assert.match(there.note!, /cannot read 8 KiB at 3 MiB.*the source is not released/)
      assert.equal((await a.control.showDisk('web01')).state, 'departed')
      const guest = await attach(b, 'web01')
      assert((await guest.read(0, mebibyte)).equals(content.subarray(0, mebibyte)))

      await file.reads.end()
      const done = await untilMigration(a, id, ({ state }) => state === 'done')
      assert.equal(done.verified, true)
      assert.equal((await a.control.showDisk('web01')).state, 'released')
      assert((await readAll(guest)).equals(content))
    })
  }

  it('promises 6, 8: a failed sync of an arriving disk is final for its daemon; the next one has all that was answered', async function () {
    const { env, syncs } = failingStorage(this, '.raw')
    const [a, b] = await Promise.all([Site.start('osaka'), Site.start('tokyo', { env })])
    await pair(a, b)
    await createDisk(a, 'web01', sizeBytes)
    const content = randomFillSync(Buffer.alloc(sizeBytes))
    const before = await attach(a, 'web01')
    await before.write(0, content)
    await before.disconnect()
    const { id } = await begin(a, b, 'web01', 'now', { maxRate: 256 * 1024 })
    await untilDisk(b, 'web01', ({ state, present }) => state === 'arriving' && present.blocks > 0)

    const guest = await attach(b, 'web01')
    const write = (offset: number, byte: number) =>
      guest.write(offset, content.fill(byte, offset, offset + block).subarray(offset, offset + block))
    await write(7 * mebibyte, 1)
    await guest.flush()
    await write(7 * mebibyte, 2)
    await write(6 * mebibyte, 3)
    syncs.begin()
    await refusedWith('EIO', guest.flush())
    await refusedWith('EIO', guest.write(0, Buffer.alloc(block, 4)))
    assert((await guest.read(7 * mebibyte, block)).equals(Buffer.alloc(block, 2)))
    const failed = await b.control.showDisk('web01')
    assert.equal(failed.state, 'arriving')
    assert.match(failed.trouble!, /EIO.*takes no more writes.*start vmstore again/)
    assert.equal((await a.control.showDisk('web01')).state, 'departed')
    refusalOf(await vmstore(b, 'disk', 'accept', 'web01', '--yes'), 3, 'nothing-to-accept')
    await guest.disconnect()

    await syncs.end()
    await b.kill()
    await b.restart()
    assert.equal((await b.control.showDisk('web01')).trouble, null)
    await fetchRest(b, 'web01')
    const done = await untilMigration(b, id, ({ state }) => state === 'done')
    assert.equal(done.verified, true)
    await a.stop()
    assert((await readAll(await attach(b, 'web01'))).equals(content))
  })

  it('a write for which a file system in user space takes its time stalls no guest of another disk', async function () {
    const { path, writes } = await fileThroughFuse(this, randomFillSync(Buffer.alloc(sizeBytes)))
    const site = await Site.start('osaka', { files: [path] })
    afterwards(() => site.kill())
    await createDisk(site, 'web02', mebibyte)
    const [slow, other] = await Promise.all([attach(site, 'web01'), attach(site, 'web02')])
    writes.begin()
    // More than the thread pool has threads: the other disk's flush needs one.
    const pending = Array.from({ length: 100 }, (_, index) => slow.write(index * block, Buffer.alloc(block, 1)))
    try {
      for (let round = 0; round < 50; round++) {
        await other.write(round * block, Buffer.alloc(block, 2))
        assert((await other.read(round * block, block)).equals(Buffer.alloc(block, 2)))
      }
      await other.flush()
    } finally {
      await writes.end()
    }
    await Promise.all(pending)
    const written = await slow.read(0, 100 * block)
    assert(written.equals(Buffer.alloc(100 * block, 1)))
  })
})

/** A site that serves a file which may fail. */
async function servedFile(
  context: Mocha.Context,
  kind: string,
): Promise<{ site: Site; file: FailingFile; content: Buffer }> {
  const content = randomFillSync(Buffer.alloc(sizeBytes))
  const file = await failingFiles[kind]!(context, content, bad)
  const site = await Site.start('osaka', { files: [file.path], env: file.env })
  afterwards(() => site.kill()) // Before its file goes.
  return { site, file, content }
}

/** What a client and an operator see of a disk whose sync failed. */
async function takesNoWrites(site: Site): Promise<void> {
  const guest = await attach(site, 'web01')
  for (const request of [
    () => guest.write(2 * block, Buffer.alloc(block, 9)),
    () => guest.trim(2 * block, block),
    () => guest.writeZeroes(2 * block, block),
    () => guest.flush(),
  ])
    await refusedWith('EIO', request())
  assert((await guest.read(0, block)).equals(Buffer.alloc(block, 1)))
  assert((await guest.read(block, block)).equals(Buffer.alloc(block, 2)))
  await guest.disconnect()
  const shown = await must(site, 'disk', 'show', 'web01')
  assert.match(shown.trouble, /a sync failed at \d.*EIO.*takes no more writes.*vmstore disk accept web01/)
  const { disks } = await must(site, 'status')
  assert.equal(disks[0].trouble, shown.trouble)
}

async function takesWrites(site: Site): Promise<void> {
  assert.equal((await must(site, 'disk', 'show', 'web01')).trouble, null)
  const guest = await attach(site, 'web01')
  assert((await guest.read(block, block)).equals(Buffer.alloc(block, 2)))
  await guest.write(2 * block, Buffer.alloc(block, 9))
  await guest.flush()
  await guest.disconnect()
}
