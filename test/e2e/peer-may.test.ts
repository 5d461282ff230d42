// What a peer may, as operators meet it: `migrate --from` is refused until the owner's operator has allowed it; what a site
// may have of another; and a peer that is removed by force.

import assert from 'node:assert/strict'
import {
  attach,
  begin,
  createDisk,
  endSitesAfterEach,
  must,
  pairOnly,
  refusalOf,
  refusedWith,
  Site,
  untilDisk,
  untilMigration,
  vmstore,
} from './sites.ts'

const mebibyte = 2 ** 20
const block = 4096

/** Two sites, neither of which may take anything of the other; web01 at the first, its first block full of sevens. */
async function strangers(sizeBytes = mebibyte): Promise<{ a: Site; b: Site }> {
  const [a, b] = await Promise.all([Site.start('osaka'), Site.start('tokyo')])
  await pairOnly(a, b)
  await createDisk(a, 'web01', sizeBytes)
  const guest = await attach(a, 'web01')
  for (let at = 0; at < sizeBytes; at += mebibyte) await guest.write(at, Buffer.alloc(mebibyte, 7))
  await guest.flush()
  await guest.disconnect()
  return { a, b }
}

describe('promise 10: a peer', () => {
  endSitesAfterEach()

  it('that asks for a disk is refused with the command to give there, and gets it once that was given', async () => {
    const { a, b } = await strangers()
    const refused = refusalOf(await vmstore(b, 'migrate', 'web01', '--from', 'osaka'), 3, 'not-allowed')
    const command = /vmstore (peer allow tokyo --take web01)$/.exec(refused.message)
    assert(command, refused.message)
    const unknown = refusalOf(await vmstore(b, 'migrate', 'web09', '--from', 'osaka'), 3, 'not-allowed')
    assert.equal(
      unknown.message,
      refused.message.replaceAll('web01', 'web09'),
      'it does not hear which disks there are',
    )
    assert.equal((await a.control.showDisk('web01')).migration, null)
    assert.deepEqual(await b.control.listDisks(), [])

    await must(a, ...command[1]!.split(' '))
    const shown = await must(a, 'peer', 'show', 'tokyo')
    assert.deepEqual(
      shown.mayTake.map(({ name, give }: { name: string; give: boolean }) => [name, give]),
      [['web01', false]],
    )
    const now = await vmstore(b, 'migrate', 'web01', '--from', 'osaka', '--switchover', 'now')
    assert.match(refusalOf(now, 3, 'not-allowed').message, /vmstore peer allow tokyo --take web01 --give$/)

    await a.stop() // What was allowed is on record.
    await a.restart()
    const { id } = await must(b, 'migrate', 'web01', '--from', 'osaka', '--detach')
    await (await attach(b, 'web01')).write(0, Buffer.alloc(512, 9))
    await untilMigration(b, id, ({ state }) => state === 'done')
    await untilDisk(a, 'web01', ({ state }) => state === 'released')
  })

  it('takes a disk at once where it may say when; never with deletion, nor by force', async () => {
    const { a, b } = await strangers()
    await must(a, 'peer', 'allow', 'tokyo', '--take', '*', '--give')
    const at = ['migrate', 'web01', '--from', 'osaka', '--switchover', 'now']
    for (const more of [['--source', 'delete', '--yes'], ['--force']]) {
      const view = refusalOf(await vmstore(b, ...at, ...more), 3, 'owners-word')
      assert.match(view.message, /is said by the operator there alone/)
    }
    assert.equal((await must(b, ...at)).state, 'done')
    const { state, allocated } = await untilDisk(a, 'web01', (view) => view.state === 'released')
    assert.deepEqual([state, allocated > 0], ['released', true])
  })

  it('gets nothing any more of what was taken back, and may take all by name of a star alone', async () => {
    const { a, b } = await strangers()
    await must(a, 'peer', 'allow', 'tokyo', '--take', '*')
    refusalOf(await vmstore(a, 'peer', 'allow', 'tokyo', '--take', 'web01', '--revoke'), 3, 'still-allowed')
    await must(a, 'peer', 'allow', 'tokyo', '--take', '*', '--revoke')
    refusalOf(await vmstore(b, 'migrate', 'web01', '--from', 'osaka'), 3, 'not-allowed')
    refusalOf(await vmstore(a, 'peer', 'allow', 'tokyo', '--take', 'web09'), 3, 'disk-unknown')
    refusalOf(await vmstore(a, 'peer', 'allow', 'tokyo'), 2)
  })

  it("has no word in when a disk passes that it is moved by hand, unless the owner's operator lets it", async () => {
    const { a, b } = await strangers()
    const { id } = await begin(a, b, 'web01', 'manual')
    const view = refusalOf(await vmstore(b, 'migration', 'switchover', id), 3, 'owners-word')
    assert(view.message.includes(`there, vmstore migration switchover ${id}`), view.message)
    assert.equal((await a.control.showDisk('web01')).state, 'owned')
    await must(a, 'migration', 'switchover', id)
    await untilMigration(b, id, ({ state }) => state === 'done')
  })

  it('places here no more than it may, and what it wanted more shows', async () => {
    const { a, b } = await strangers()
    await must(b, 'peer', 'allow', 'osaka', '--disks', '0')
    const refused = refusalOf(await vmstore(a, 'migrate', 'web01', '--to', 'tokyo'), 3, 'over-limit')
    assert.match(refused.message, /at most 0 disks/)
    const { limits } = await must(b, 'peer', 'show', 'osaka')
    // The estimate before the move met it too.
    assert.deepEqual([limits.disks.most, limits.disks.isSet], [0, true])
    assert(limits.disks.reached.count > 0)
    const { peers } = await must(b, 'status')
    assert.equal(peers[0].limits.disks.reached.count, limits.disks.reached.count)
    await must(b, 'peer', 'allow', 'osaka', '--usual-limits')
    const { id } = await begin(a, b, 'web01', 'now')
    await untilMigration(b, id, ({ state }) => state === 'done')
    assert.equal((await must(b, 'peer', 'show', 'osaka')).limits.disks.used, 1)
  })

  describe('that is removed by force, without its answer', () => {
    it('has nothing any more of a disk that had not passed, at the source and at the destination', async () => {
      const { a, b } = await strangers()
      const { id } = await begin(a, b, 'web01', 'manual')
      await untilMigration(a, id, ({ state }) => state === 'ready')
      assert.match(refusalOf(await vmstore(b, 'peer', 'remove', 'osaka'), 3, 'peer-in-use').next!, /--force/)
      await a.kill() // It says nothing.
      const there = await must(b, 'peer', 'remove', 'osaka', '--force')
      assert.match(there.stranded[0], /^Migration .* was left: osaka has all bytes of web01/)
      assert.deepEqual([await b.control.listDisks(), await b.control.listPeers()], [[], []])
      await a.restart()
      const here = await must(a, 'peer', 'remove', 'tokyo', '--force')
      assert.match(here.stranded[0], /of web01 was cancelled: this site owns it/)
      const { state, migration } = await a.control.showDisk('web01')
      assert.deepEqual([state, migration, (await a.control.showMigration(id)).state], ['owned', null, 'cancelled'])
      await (await attach(a, 'web01')).write(0, Buffer.alloc(block, 1))
    })

    it('takes with it what had not come: the disk goes on here with the rest, also after a restart, and may be deleted', async () => {
      const { a, b } = await strangers(8 * mebibyte)
      const { id } = await begin(a, b, 'web01', 'now', { maxRate: 4096 })
      await untilMigration(b, id, ({ state }) => state === 'copying')
      const guest = await attach(b, 'web01')
      await guest.write(0, Buffer.alloc(block, 9))
      const there = await must(b, 'peer', 'remove', 'osaka', '--force')
      assert.match(there.stranded[0], /bytes may exist only at osaka, and reads of them fail \(EIO\)/)
      assert.equal((await b.control.showMigration(id)).state, 'failed')
      await refusedWith('EIO', guest.read(4 * mebibyte, block))
      await guest.disconnect()
      await b.stop()
      await b.restart()
      const again = await attach(b, 'web01')
      assert((await again.read(0, block)).equals(Buffer.alloc(block, 9)))
      await refusedWith('EIO', again.read(4 * mebibyte, block))
      await again.write(4 * mebibyte, Buffer.alloc(block, 8))
      await again.disconnect()

      const here = await must(a, 'peer', 'remove', 'tokyo', '--force')
      assert.match(here.stranded[0], /web01 had been given to tokyo.*exist only here/)
      for (const site of [a, b]) {
        await must(site, 'disk', 'delete', 'web01')
        assert.deepEqual(await site.control.listDisks(), [])
      }
    })
  })

  it('that does not answer keeps nobody from leaving by force', async () => {
    const { a, b } = await strangers()
    const { id } = await begin(a, b, 'web01', 'manual')
    await a.kill()
    await must(b, 'migration', 'cancel', id, '--force')
    assert.deepEqual(await b.control.listDisks(), [])
  })
})
