// A destination whose storage is full: refused when it shows before, and waited for when it happens under way.

import assert from 'node:assert/strict'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { needTool, skipHere } from '../tools.ts'
import {
  afterwards,
  attach,
  begin,
  createDisk,
  endSitesAfterEach,
  fetchRest,
  folder,
  must,
  pair,
  program,
  refusalOf,
  refusedWith,
  Site,
  tool,
  until,
  untilMigration,
  vmstore,
} from './sites.ts'

const mebibyte = 2 ** 20
const block = 4096
const dataBytes = 48 * mebibyte

describe('no space', () => {
  before(async function () {
    needTool(this, 'mount', 'umount')
    if (!(await canMount())) skipHere(this, 'this user may not mount small file systems')
  })
  endSitesAfterEach()

  it('a data folder on tmpfs, which has no RWF_NOWAIT and no ZERO_RANGE, serves every request', async () => {
    const site = await siteOn('osaka', 96)
    await createDisk(site, 'web01', mebibyte)
    const guest = await attach(site, 'web01', { metaContexts: ['base:allocation'] })
    await guest.write(0, Buffer.alloc(4 * block, 7))
    assert((await guest.read(0, 4 * block)).equals(Buffer.alloc(4 * block, 7)))
    await guest.writeZeroes(block, block, { noHole: true })
    await guest.writeZeroes(2 * block, block)
    await guest.trim(3 * block, block)
    await guest.flush()
    const expected = Buffer.concat([Buffer.alloc(block, 7), Buffer.alloc(3 * block)])
    assert((await guest.read(0, 4 * block)).equals(expected))
    await guest.blockStatus(0, mebibyte)
  })

  it('a disk that does not fit is refused at create and at migrate, and nothing changes', async () => {
    const image = await dataImage()
    const b = await siteOn('tokyo', 96)
    refusalOf(await vmstore(b, 'disk', 'create', 'web01', '--from', image), 3, 'no-space')
    assert.deepEqual(await b.control.listDisks(), [])

    const a = await Site.start('osaka')
    await pair(a, b)
    await must(a, 'disk', 'create', 'web01', '--from', image)
    refusalOf(await vmstore(a, 'migrate', 'web01', '--to', 'tokyo'), 3, 'no-space')
    assert.deepEqual(await b.control.listDisks(), [])
    const shown = await a.control.showDisk('web01')
    assert.deepEqual([shown.state, shown.generation, shown.migration], ['owned', 1, null])
  })

  it('promise 8: a destination that fills up in the middle of the copy waits, says so, and goes on when there is room', async () => {
    const image = await dataImage()
    const [a, b] = await Promise.all([Site.start('osaka'), siteOn('tokyo', 160)])
    await pair(a, b)
    await must(a, 'disk', 'create', 'web01', '--from', image)
    const { id } = await begin(a, b, 'web01', 'now', { maxRate: 2 * mebibyte })
    await untilMigration(b, id, ({ bytes, state }) => state === 'copying' && bytes.missing < bytes.disk)
    const ballast = join(b.root, 'ballast')
    await fill(ballast)
    const waiting = await untilMigration(b, id, ({ note }) => note !== null)
    assert.match(waiting.note!, /space|ENOSPC/i)
    const shown = await b.control.showDisk('web01')
    assert.deepEqual([shown.state, shown.generation, shown.trouble], ['arriving', 2, null])

    const guest = await attach(b, 'web01')
    const last = dataBytes - 64 * block
    await refusedWith('ENOSPC', guest.write(last, Buffer.alloc(block, 9)))
    assert.equal((await b.control.showDisk('web01')).guestErrors['ENOSPC']!.count, 1)
    assert.match(b.logged('a guest was answered with an error').join(), /ENOSPC/)
    const atSource = await untilMigration(a, id, ({ note }) => note !== null)
    assert.match(atSource.note!, /^the destination has no room: /)
    assert((await guest.read(0, block)).equals(imageBlock(0)), 'what is here is served')
    const read = await guest.read(last, block).then(
      (bytes) => (bytes.equals(imageBlock(last)) ? 'served' : 'wrong bytes'),
      (error: { code?: string }) => error.code,
    )
    assert.equal(read, 'served', 'a read of what is not here needs no room')

    await rm(ballast)
    await until('the guest can write', () =>
      guest.write(last, Buffer.alloc(block, 9)).then(
        () => true as const,
        () => undefined,
      ),
    )
    await fetchRest(b, 'web01')
    await untilMigration(b, id, ({ state }) => state === 'done')
    await a.stop()
    for (let at = 0; at < dataBytes; at += 251 * block)
      assert((await guest.read(at, block)).equals(imageBlock(at)), `the block at ${at}`)
    assert((await guest.read(last, block)).equals(Buffer.alloc(block, 9)))
  })

  it('promise 8: a destination that cannot record that it has everything waits, and ends the move when there is room', async () => {
    const [a, b] = await Promise.all([Site.start('osaka'), siteOn('tokyo', 96)])
    await pair(a, b)
    await createDisk(a, 'web01', 16 * mebibyte)
    await (await attach(a, 'web01')).write(0, Buffer.alloc(mebibyte, 1))
    const { id } = await begin(a, b, 'web01', 'now', { maxRate: 32 * 1024 })
    await untilMigration(b, id, ({ state }) => state === 'copying')
    await a.kill()
    const guest = await attach(b, 'web01')
    await guest.write(0, Buffer.alloc(mebibyte, 2)) // What is left to come are holes, which need no room.
    await guest.flush()
    const ballast = join(b.root, 'ballast')
    await fill(ballast)
    await a.restart()
    await untilMigration(b, id, ({ bytes, note }) => bytes.missing === 0 || /space|full/i.test(note ?? ''))
    await rm(ballast)
    await untilMigration(b, id, ({ state }) => state === 'done')
    assert((await guest.read(0, mebibyte)).equals(Buffer.alloc(mebibyte, 2)))
    await guest.write(0, Buffer.alloc(block, 3))
  })

  it('promise 8: a source whose storage is full gives the disk up all the same or goes on owning it, and never loses it', async () => {
    const a = await siteOn('osaka', 160)
    const b = await Site.start('tokyo')
    await pair(a, b)
    await must(a, 'disk', 'create', 'web01', '--from', await dataImage())
    const ballast = join(a.root, 'ballast')
    await fill(ballast)
    const ran = await vmstore(a, 'migrate', 'web01', '--to', 'tokyo', '--switchover', 'now', '--detach')
    await rm(ballast)
    if (ran.exit === 0) await untilMigration(b, ran.json.id, ({ state }) => state === 'done')
    else refusalOf(ran, 3)
    const owner = ran.exit === 0 ? b : a
    assert.equal((await owner.control.showDisk('web01')).ownerName, 'this site')
    const guest = await attach(owner, 'web01')
    for (let at = 0; at < dataBytes; at += 251 * block) assert((await guest.read(at, block)).equals(imageBlock(at)))
  })
})

async function canMount(): Promise<boolean> {
  if (process.getuid?.() !== 0) return false
  const place = folder()
  const { code } = await program('/bin/mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', place])
  if (code === 0) await tool('umount', place)
  return code === 0
}

/** A site whose data folder has this many mebibytes in all. */
async function siteOn(name: string, mebibytes: number): Promise<Site> {
  const root = folder()
  await tool('mount', '-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', root)
  let site: Site | undefined
  afterwards(async () => {
    await site?.kill()
    await tool('umount', root)
  })
  site = await Site.start(name, { root })
  return site
}

/** Takes all the room that there is. */
async function fill(path: string): Promise<void> {
  const { code } = await program('/bin/dd', ['if=/dev/zero', `of=${path}`, 'bs=64k'])
  assert.notEqual(code, 0, 'the file system is full')
}

function imageBlock(offset: number): Buffer {
  return Buffer.alloc(block, 1 + ((offset / block) % 251))
}

async function dataImage(): Promise<string> {
  const path = join(folder(), 'web01.img')
  const bytes = Buffer.alloc(dataBytes)
  for (let at = 0; at < dataBytes; at += block) imageBlock(at).copy(bytes, at)
  await writeFile(path, bytes)
  return path
}
