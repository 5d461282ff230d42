// What the rules of a move forbid and allow: one migration a disk, cancel before switchover only, no delete under a client,
// and the way back.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { DiskView } from '../../src/control/types.ts'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { sitesWithDisk } from './scenes.ts'
import {
  attach,
  begin,
  endSitesAfterEach,
  must,
  refusalOf,
  refusedWith,
  until,
  untilDisk,
  untilMigration,
  vmstore,
} from './sites.ts'

const block = 4096
const mebibyte = 2 ** 20

describe('the rules of a move', () => {
  endSitesAfterEach()

  it('a disk that migrates is not migrated once more, from either side', async () => {
    const { a, b } = await sitesWithDisk(16 * mebibyte)
    const { id } = await begin(a, b, 'web01', 'manual')
    assert.match(refusalOf(await vmstore(a, 'migrate', 'web01', '--to', 'tokyo'), 3, 'migrating').next!, new RegExp(id))
    refusalOf(await vmstore(b, 'migrate', 'web01', '--from', 'osaka'), 3, 'migrating')
    refusalOf(await vmstore(b, 'migrate', 'web01', '--to', 'osaka'), 3, 'migrating')
    assert.equal((await a.control.showMigration(id)).state, 'ready')

    await must(a, 'migration', 'switchover', id)
    await untilMigration(a, id, ({ state }) => state === 'done')
    refusalOf(await vmstore(a, 'migrate', 'web01', '--to', 'tokyo'), 3, 'not-owned')
    refusalOf(await vmstore(b, 'migrate', 'web01', '--from', 'osaka'), 3, 'not-owned')
  })

  it('a disk is not deleted under a client, nor while it moves', async () => {
    const { a, b } = await sitesWithDisk(16 * mebibyte)
    const guest = await attach(a, 'web01')
    refusalOf(await vmstore(a, 'disk', 'delete', 'web01'), 3, 'disk-in-use')
    await guest.write(0, Buffer.alloc(block, 1))
    await guest.disconnect()
    await untilDisk(a, 'web01', ({ sessions }) => sessions === 0)
    const { id } = await begin(a, b, 'web01', 'manual')
    refusalOf(await vmstore(a, 'disk', 'delete', 'web01'), 3, 'migrating')
    refusalOf(await vmstore(b, 'disk', 'delete', 'web01'), 3, 'migrating')
    refusalOf(await vmstore(b, 'disk', 'create', 'web01', '--size', '1M'), 3, 'disk-exists')
    refusalOf(await vmstore(b, 'peer', 'remove', 'osaka'), 3, 'peer-in-use')
    await must(a, 'migration', 'cancel', id)
    await must(a, 'disk', 'delete', 'web01')
    assert.deepEqual(await readdir(join(a.root, 'disks')), [])
    refusalOf(await vmstore(a, 'disk', 'delete', 'web01'), 3, 'disk-unknown')
  })

  for (const side of ['source', 'destination'] as const) {
    it(`a migration cancelled at the ${side} before switchover leaves the source's guest alone and nothing behind`, async () => {
      const { a, b } = await sitesWithDisk(16 * mebibyte)
      const guest = await attach(a, 'web01')
      await guest.write(0, Buffer.alloc(block, 1))
      const { id } = await begin(a, b, 'web01', 'manual', { switchoverWaitMs: 60_000 })
      const stray = await attach(b, 'web01')
      assert((await stray.read(0, block)).equals(Buffer.alloc(block, 1)))
      const held = stray.write(0, Buffer.alloc(block, 9))
      held.catch(() => {})
      await must(side === 'source' ? a : b, 'migration', 'cancel', id)
      await until('the disk is gone at the destination', async () =>
        (await b.control.listDisks()).length === 0 ? true : undefined,
      )
      await refusedWith('ESHUTDOWN', held)
      await assert.rejects(stray.read(0, block))
      assert.deepEqual(await NbdClient.list(b.uri('')), [])
      await until('its folder is gone', async () =>
        (await readdir(join(b.root, 'disks'))).length === 0 ? true : undefined,
      )
      const shown: DiskView = await a.control.showDisk('web01')
      assert.deepEqual([shown.state, shown.generation, shown.migration], ['owned', 1, null])
      await guest.write(block, Buffer.alloc(block, 2))
      for (const site of [a, b]) assert.equal((await site.control.showMigration(id)).state, 'cancelled')
      refusalOf(await vmstore(a, 'migration', 'cancel', id), 3, 'migration-over')
      refusalOf(await vmstore(a, 'migration', 'switchover', id), 3, 'migration-over')
      await untilMigration(a, (await begin(a, b, 'web01', 'now')).id, ({ state }) => state === 'done')
    })
  }

  it('a migrate command that watches a cancelled migration ends with 4: the source owns', async () => {
    const { a, b } = await sitesWithDisk(16 * mebibyte)
    const watching = vmstore(a, 'migrate', 'web01', '--to', 'tokyo', '--switchover', 'manual')
    const { id } = await until('it has begun', async () => (await b.control.listMigrations())[0])
    await untilMigration(a, id, ({ state }) => state === 'ready')
    await must(b, 'migration', 'cancel', id)
    refusalOf(await watching, 4, 'migration-cancelled')
  })

  it('a cancel while the destination is away is decided at the source, and the destination follows when it is back', async () => {
    const { a, b } = await sitesWithDisk(16 * mebibyte)
    const { id } = await begin(a, b, 'web01', 'auto')
    await b.kill()
    await must(a, 'migration', 'cancel', id)
    await (await attach(a, 'web01')).write(0, Buffer.alloc(block, 1))
    await b.restart()
    await until('the disk is gone at the destination', async () =>
      (await b.control.listDisks()).length === 0 ? true : undefined,
    )
  })

  it('a cancel at the destination while the source is away is refused: only the source decides', async () => {
    const { a, b } = await sitesWithDisk(16 * mebibyte)
    const { id } = await begin(a, b, 'web01', 'auto')
    await a.kill()
    const view = refusalOf(await vmstore(b, 'migration', 'cancel', id), 3, 'no-answer')
    assert.match(view.next!, /--force/)
    assert.equal((await b.control.showDisk('web01')).state, 'incoming')
    await a.restart()
    await (await attach(b, 'web01')).write(0, Buffer.alloc(block, 1))
    await untilMigration(b, id, ({ state }) => state === 'done')
  })

  it('after switchover there is no cancel', async () => {
    const { a, b } = await sitesWithDisk(16 * mebibyte)
    const guest = await attach(a, 'web01')
    await guest.write(0, Buffer.alloc(8 * mebibyte, 1))
    await guest.flush()
    const { id } = await begin(a, b, 'web01', 'now', { maxRate: 16 * 1024 })
    await untilMigration(b, id, ({ state }) => state === 'copying')
    for (const site of [a, b]) {
      refusalOf(await vmstore(site, 'migration', 'cancel', id), 3, 'too-late')
      refusalOf(await vmstore(site, 'migration', 'switchover', id), 3, 'too-late')
    }
    refusalOf(await vmstore(b, 'migration', 'cancel', id, '--force'), 3, 'too-late')
    refusalOf(await vmstore(b, 'migrate', 'web01', '--to', 'osaka'), 3, 'migrating')
    refusalOf(await vmstore(b, 'disk', 'delete', 'web01'), 3)
    refusalOf(await vmstore(a, 'disk', 'delete', 'web01'), 3)
    assert.equal((await b.control.showMigration(id)).state, 'copying')
  })

  it('promise 1: a disk goes back, and forth again; its generation grows each time', async () => {
    const { a, b } = await sitesWithDisk(16 * mebibyte)
    const { id: disk } = await a.control.showDisk('web01')
    let [from, to] = [a, b]
    for (let move = 1; move <= 4; move++) {
      const guest = await attach(from, 'web01')
      await guest.write((move - 1) * block, Buffer.alloc(block, move))
      await guest.disconnect()
      const source = move === 2 ? 'delete' : 'keep'
      const { id } = await begin(from, to, 'web01', 'now', { source })
      await untilMigration(to, id, ({ state }) => state === 'done')
      const [atFrom, atTo] = await Promise.all([from.control.showDisk('web01'), to.control.showDisk('web01')])
      assert.deepEqual([atTo.id, atTo.state, atTo.generation], [disk, 'owned', move + 1])
      assert.deepEqual([atFrom.state, atFrom.generation, atFrom.owner], ['released', move + 1, atTo.owner])
      assert.equal(existsSync(atFrom.path), move !== 2, 'the bytes are kept, or deleted when asked')
      const moved = await attach(to, 'web01')
      for (let slot = 0; slot < move; slot++)
        assert((await moved.read(slot * block, block)).equals(Buffer.alloc(block, slot + 1)), `slot ${slot}`)
      await moved.disconnect()
      ;[from, to] = [to, from]
    }
  })

  it('a guest that stays attached to the source over a move there and back is never served from old bytes', async () => {
    const { a, b } = await sitesWithDisk(16 * mebibyte)
    const old = await attach(a, 'web01')
    await old.write(0, Buffer.alloc(block, 1))
    await old.flush()
    const there = await begin(a, b, 'web01', 'now')
    await untilMigration(b, there.id, ({ state }) => state === 'done')
    const guest = await attach(b, 'web01')
    await guest.write(0, Buffer.alloc(block, 2))
    await guest.disconnect()
    const back = await begin(b, a, 'web01', 'now')
    await untilMigration(b, back.id, ({ state }) => state === 'done')
    await refusedWith('ESHUTDOWN', old.read(0, block))
    await refusedWith('ESHUTDOWN', old.write(0, Buffer.alloc(block, 3)))
    assert((await (await attach(a, 'web01')).read(0, block)).equals(Buffer.alloc(block, 2)))
  })

  it('migrate --from, asked at the destination, is the same move', async () => {
    const { a, b } = await sitesWithDisk(16 * mebibyte)
    const guest = await attach(a, 'web01')
    await guest.write(0, Buffer.alloc(block, 1))
    await guest.flush()
    const { exit, json } = await vmstore(b, 'migrate', 'web01', '--from', 'osaka', '--switchover', 'now')
    assert.deepEqual([exit, json.type, json.state, json.role], [0, 'result', 'done', 'destination'])
    assert((await (await attach(b, 'web01')).read(0, block)).equals(Buffer.alloc(block, 1)))
    assert.equal((await a.control.showDisk('web01')).state, 'released')
  })
})
