// What cannot be done is refused: a sentence, the documented exit code, nothing changed, nobody else disturbed
// (promises 11 and 12).

import assert from 'node:assert/strict'
import { mkdir, open, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { DiskView } from '../../src/control/types.ts'
import { needTool } from '../tools.ts'
import {
  attach,
  begin,
  createDisk,
  endSitesAfterEach,
  fetchRest,
  folder,
  must,
  openInQemu,
  pair,
  refusalOf,
  Site,
  serveRefused,
  tool,
  twoSites,
  untilDisk,
  untilMigration,
  vmstore,
} from './sites.ts'

const mebibyte = 2 ** 20
const block = 4096

describe('bad input to commands', () => {
  endSitesAfterEach()

  describe('disk create', () => {
    let site: Site
    let files: string
    beforeEach(async () => {
      site = await Site.start('osaka')
      files = folder()
    })

    const refusedToCreate = async (exit: number, code: string | RegExp, ...flags: string[]) => {
      const view = refusalOf(await vmstore(site, 'disk', 'create', 'web01', ...flags), exit, code)
      assert.deepEqual(await site.control.listDisks(), [])
      assert.deepEqual(await readdir(join(site.root, 'disks')), [], 'nothing is left behind')
      return view
    }

    it('a size below the image is refused', async () => {
      const image = await rawImage(join(files, 'web01.raw'), mebibyte)
      const view = await refusedToCreate(3, 'wrong-size', '--from', image, '--size', '512K')
      assert.match(view.safe ?? '', /[Nn]othing was changed/)
    })

    it('a size that is no size, of half a sector, or missing, is a mistake in usage', async () => {
      await refusedToCreate(2, 'usage', '--size', 'large')
      await refusedToCreate(2, 'usage')
      await refusedToCreate(2, 'bad-request', '--size', '1000')
      await refusedToCreate(2, 'bad-request', '--size', '0')
    })

    it('a size that the file system cannot hold is refused', async () => {
      await refusedToCreate(3, /./, '--size', '1000T')
    })

    it('a name that could be a path or is too long is a mistake in usage', async () => {
      for (const name of ['../web01', 'web 01', '.web01', 'x'.repeat(128)])
        refusalOf(await vmstore(site, 'disk', 'create', name, '--size', '1M'), 2)
      assert.deepEqual(await site.control.listDisks(), [])
    })

    it('what is no raw image is refused: another format, an odd size, a folder, nothing at all', async function () {
      needTool(this, 'qemu-img')
      const qcow2 = join(files, 'web01.raw')
      await tool('qemu-img', 'create', '-q', '-f', 'qcow2', qcow2, '1M')
      assert.match((await refusedToCreate(3, 'not-raw', '--from', qcow2)).message, /qcow2/)
      const odd = join(files, 'odd.raw')
      await writeFile(odd, Buffer.alloc(1000))
      assert.match((await refusedToCreate(3, 'not-raw', '--from', odd)).message, /1000/)
      const empty = join(files, 'empty.raw')
      await writeFile(empty, '')
      await refusedToCreate(3, 'not-raw', '--from', empty)
      await refusedToCreate(3, 'not-raw', '--from', files)
      await refusedToCreate(3, 'image-unknown', '--from', join(files, 'missing.raw'))
    })

    it('an image that QEMU has open is refused', async function () {
      needTool(this, 'qemu-io')
      const image = await rawImage(join(files, 'web01.raw'), mebibyte)
      await openInQemu(image)
      await refusedToCreate(3, 'in-use', '--from', image)
    })

    it('a name that is taken is refused, and the disk that has it goes on', async () => {
      await createDisk(site, 'web01', mebibyte)
      const guest = await attach(site, 'web01')
      await guest.write(0, Buffer.alloc(block, 7))
      refusalOf(await vmstore(site, 'disk', 'create', 'web01', '--size', '2M'), 3, 'disk-exists')
      assert((await guest.read(0, block)).equals(Buffer.alloc(block, 7)))
      assert.equal((await site.control.showDisk('web01')).size, mebibyte)
    })
  })

  describe('migrate', () => {
    it('a name that is taken at the destination is refused', async () => {
      const { a, b, unchanged } = await sitesWithDisks()
      await createDisk(b, 'web01', 4 * mebibyte)
      const there: DiskView = await b.control.showDisk('web01')
      const view = refusalOf(await vmstore(a, 'migrate', 'web01', '--to', 'tokyo'), 3, 'disk-exists')
      assert.equal(view.disk, 'web01')
      await unchanged()
      assert.deepEqual(await b.control.showDisk('web01'), there)
    })

    it('a disk, a peer, a mode or a side that there is not is refused', async () => {
      const { a, unchanged } = await sitesWithDisks()
      refusalOf(await vmstore(a, 'migrate', 'web02', '--to', 'tokyo'), 3, 'disk-unknown')
      refusalOf(await vmstore(a, 'migrate', 'web01', '--to', 'nagoya'), 3, 'peer-unknown')
      refusalOf(await vmstore(a, 'migrate', 'web02', '--from', 'tokyo'), 3, 'disk-unknown')
      refusalOf(await vmstore(a, 'migrate', 'web01', '--to', 'tokyo', '--mode', 'sideways'), 2)
      refusalOf(await vmstore(a, 'migrate', 'web01', '--to', 'tokyo', '--max-rate', 'fast'), 2)
      refusalOf(await vmstore(a, 'migrate', 'web01', '--to', 'tokyo', '--from', 'tokyo'), 2)
      refusalOf(await vmstore(a, 'migrate', 'web01'), 2)
      await unchanged()
    })

    it('a destination that serves read-only is refused: it could not take the bytes', async () => {
      const { a, unchanged } = await sitesWithDisks()
      const c = await Site.start('nagoya', { flags: ['--read-only'] })
      await pair(a, c)
      refusalOf(await vmstore(a, 'migrate', 'web01', '--to', 'nagoya', '--switchover', 'now', '--detach'), 3)
      await unchanged()
      assert.deepEqual(await c.control.listDisks(), [])
    })

    it('a peer that is down is refused, and the disk can be moved once it is back', async () => {
      const { a, b, unchanged } = await sitesWithDisks()
      await b.kill()
      const view = refusalOf(await vmstore(a, 'migrate', 'web01', '--to', 'tokyo'), 3, 'peer-unreachable')
      assert.match(`${view.safe} ${view.next}`, /[Nn]othing was changed.*peer/)
      await b.restart()
      await unchanged()
      const { id } = await begin(a, b, 'web01', 'now')
      await untilMigration(a, id, ({ state }) => state === 'done')
    })

    it('promise 10: a peer that has been removed gets nothing and changes nothing, whichever side asks', async () => {
      const { a, b, unchanged } = await sitesWithDisks()
      await must(b, 'peer', 'remove', 'osaka')
      refusalOf(await vmstore(a, 'migrate', 'web01', '--to', 'tokyo'), 3)
      refusalOf(await vmstore(b, 'migrate', 'web01', '--from', 'osaka'), 3, 'peer-unknown')
      await unchanged()
    })

    it('promise 10: one that was never paired gets nothing, and a token opens once', async () => {
      const { a, b } = await sitesWithDisks()
      const c = await Site.start('nagoya')
      const { token } = await must(a, 'peer', 'invite')
      await must(c, 'peer', 'join', token, '--name', 'osaka')
      await must(a, 'peer', 'remove', (await a.control.listPeers()).at(-1)!.name)
      refusalOf(await vmstore(c, 'migrate', 'web01', '--from', 'osaka'), 3)
      refusalOf(await vmstore(c, 'peer', 'join', token), 3)
      refusalOf(await vmstore(b, 'peer', 'join', token), 3)
      refusalOf(await vmstore(c, 'peer', 'join', 'vmstore-nonsense'), 3)
      assert.deepEqual(await c.control.listDisks(), [])
      assert.equal((await a.control.showDisk('web01')).migration, null)
    })
  })

  it('a command without a daemon says so, and changes nothing', async () => {
    const site = await Site.start('osaka')
    await site.kill()
    const view = refusalOf(await vmstore(site, 'disk', 'list'), 1, 'daemon-unreachable')
    assert.match(view.next ?? '', /vmstore serve/)
  })

  describe('a newer format', () => {
    it('a database of a newer vmstore is refused, and not touched', async () => {
      const site = await Site.start('osaka')
      await createDisk(site, 'web01', mebibyte)
      assert.equal(await site.stop(), 0)
      const path = join(site.root, 'vmstore.sqlite')
      setUserVersion(path, 99)
      const before = await readFile(path)
      const view = refusalOf(await serveRefused('--root', site.root), 3, 'newer-format')
      assert.match(`${view.message} ${view.next}`, /99.*newer vmstore/)
      assert((await readFile(path)).equals(before))
      setUserVersion(path, 2)
      await site.restart()
      assert.equal((await site.control.showDisk('web01')).state, 'owned')
    })

    it('a database that is none is refused, and not touched', async () => {
      const site = await Site.start('osaka')
      assert.equal(await site.stop(), 0)
      const path = join(site.root, 'vmstore.sqlite')
      const garbage = Buffer.alloc(8192, 'not a database ')
      await writeFile(path, garbage)
      refusalOf(await serveRefused('--root', site.root), 3, 'damaged')
      assert((await readFile(path)).equals(garbage))
    })

    it('maps of a newer vmstore are refused and not touched, other disks are served, and the move goes on with the newer one', async () => {
      const { a, b } = await sitesWithDisks()
      const guest = await attach(a, 'web01')
      await guest.write(0, Buffer.alloc(8 * mebibyte, 5))
      const { id } = await begin(a, b, 'web01', 'now', { maxRate: 256 * 1024 })
      const { path } = await untilDisk(b, 'web01', ({ state }) => state === 'arriving')
      await a.kill() // So that the copy does not end meanwhile.
      await b.kill()
      const maps = join(path, '../maps.log')
      const version = await setMapVersion(maps, 77)
      const before = await readFile(maps)
      await b.restart()
      const shown: DiskView = await b.control.showDisk('web01')
      assert.match(shown.trouble ?? '', /77/)
      assert.deepEqual([shown.state, shown.generation], ['arriving', 2])
      await (await attach(b, 'other')).read(0, block)
      assert((await readFile(maps)).equals(before))
      assert.equal(await b.stop(), 0)
      await setMapVersion(maps, version)
      await Promise.all([a.restart(), b.restart()])
      await fetchRest(b, 'web01')
      await untilMigration(b, id, ({ state }) => state === 'done')
      assert((await (await attach(b, 'web01')).read(0, block)).equals(Buffer.alloc(block, 5)))
    })
  })
})

/** Two sites, a disk web01 at the first, and a bystander at each whose guest must not notice anything. */
async function sitesWithDisks(): Promise<{ a: Site; b: Site; unchanged: () => Promise<void> }> {
  const { a, b } = await twoSites()
  await createDisk(a, 'web01', 16 * mebibyte)
  await createDisk(a, 'bystander', mebibyte)
  await createDisk(b, 'other', mebibyte)
  const guest = await attach(a, 'bystander')
  await guest.write(0, Buffer.alloc(block, 3))
  const before: DiskView = await a.control.showDisk('web01')
  const pid = a.pid
  const unchanged = async () => {
    assert.deepEqual(await a.control.showDisk('web01'), before)
    assert.deepEqual([a.isRunning, b.isRunning, a.pid], [true, true, pid])
    assert((await guest.read(0, block)).equals(Buffer.alloc(block, 3)), 'the same connection still serves')
    await guest.flush()
    const names = (await b.control.listDisks()).map(({ name, state }: DiskView) => `${name} ${state}`)
    assert.deepEqual(
      names.filter((name: string) => !name.endsWith(' owned')),
      [],
      'the destination has kept nothing',
    )
    const underWay = [...(await a.control.listMigrations()), ...(await b.control.listMigrations())]
    assert.deepEqual(
      underWay.filter(({ state }) => !['cancelled', 'failed'].includes(state)),
      [],
    )
  }
  return { a, b, unchanged }
}

async function rawImage(path: string, sizeBytes: number): Promise<string> {
  await mkdir(join(path, '..'), { recursive: true })
  await writeFile(path, '')
  await truncate(path, sizeBytes)
  assert.equal((await stat(path)).size, sizeBytes)
  return path
}

function setUserVersion(path: string, version: number): void {
  const database = new DatabaseSync(path)
  database.exec(`PRAGMA user_version = ${version}; PRAGMA wal_checkpoint(TRUNCATE);`)
  database.close()
}

/** The format version in the header of a map log: little-endian, behind the magic. Returns what it was. */
async function setMapVersion(path: string, version: number): Promise<number> {
  const file = await open(path, 'r+')
  try {
    const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 8)
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32LE(version)
    await file.write(bytes, 0, 4, 8)
    return buffer.readUInt32LE(0)
  } finally {
    await file.close()
  }
}
