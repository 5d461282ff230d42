// The daemon as a process: serving a file where it lies, sharing it with nobody, and stopping without hurting a guest.

import assert from 'node:assert/strict'
import { mkdir, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DiskView } from '../../src/control/types.ts'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { findTool, needTool } from '../tools.ts'
import {
  attach,
  begin,
  createDisk,
  endSitesAfterEach,
  folder,
  must,
  openInQemu,
  pair,
  program,
  refusalOf,
  Site,
  serveRefused,
  tool,
  until,
  untilMigration,
} from './sites.ts'

const block = 4096
const mebibyte = 2 ** 20

describe('vmstore serve', () => {
  endSitesAfterEach()

  describe('FILE', () => {
    it('serves a raw image under its base name, where it lies, and is the same disk after a restart', async () => {
      const image = await rawImage('web01.raw')
      const site = await Site.start('osaka', { files: [image] })
      const [shown]: DiskView[] = await site.control.listDisks()
      assert.deepEqual(
        [shown!.name, shown!.path, shown!.size, shown!.state, shown!.generation],
        ['web01', image, mebibyte, 'owned', 1],
      )
      assert.deepEqual(await NbdClient.list(site.uri('')), ['web01'])
      const guest = await attach(site, 'web01')
      await guest.write(block, Buffer.alloc(block, 7))
      await guest.flush()
      await guest.disconnect()
      for (const end of ['stop', 'kill'] as const) {
        await site[end]()
        await site.restart()
        const again: DiskView = await site.control.showDisk('web01')
        assert.deepEqual([again.id, again.generation, again.owner], [shown!.id, 1, shown!.owner])
        assert((await (await attach(site, 'web01')).read(block, block)).equals(Buffer.alloc(block, 7)))
      }
      await site.stop()
      assert.equal((await stat(image)).size, mebibyte)
    })

    it('what is no raw image is refused', async function () {
      needTool(this, 'qemu-img')
      const place = folder()
      const qcow2 = join(place, 'web01.qcow2')
      await tool('qemu-img', 'create', '-q', '-f', 'qcow2', qcow2, '1M')
      const odd = join(place, 'odd.raw')
      await writeFile(odd, Buffer.alloc(1000))
      for (const [file, code] of [
        [qcow2, 'not-raw'],
        [odd, 'not-raw'],
        [place, 'not-raw'],
        [join(place, 'missing.raw'), 'image-unknown'],
      ] as const) {
        refusalOf(await serveRefused(file, '--root', join(folder(), 'root')), 3, code)
      }
    })

    it('a file that QEMU has open is refused', async function () {
      needTool(this, 'qemu-io')
      const image = await rawImage('web01.raw')
      await openInQemu(image)
      refusalOf(await serveRefused(image), 3, 'in-use')
    })

    it('a file that is served is refused to QEMU and to a second site', async function () {
      needTool(this, 'qemu-io', 'qemu-img')
      const image = await rawImage('web01.raw')
      const site = await Site.start('osaka', { files: [image] })
      const io = await program(findTool('qemu-io')!, ['-f', 'raw', '-c', 'write 0 4k', image])
      assert.notEqual(io.code, 0, io.stdout)
      assert.match(io.stderr, /lock/)
      const img = await program(findTool('qemu-img')!, ['resize', '-f', 'raw', image, '2M'])
      assert.notEqual(img.code, 0, img.stdout)
      refusalOf(await serveRefused(image, '--root', join(folder(), 'root')), 3)
      await (await attach(site, 'web01')).write(0, Buffer.alloc(block, 1))
      await site.stop()
      await tool('qemu-io', '-f', 'raw', '-c', 'read -P 1 0 4k', image)
    })

    it('promise 1: a file whose disk was moved away is not served again as if it had not', async () => {
      const image = await rawImage('web01.raw')
      const a = await Site.start('osaka', { files: [image] })
      const b = await Site.start('tokyo')
      await pair(a, b)
      const guest = await attach(a, 'web01')
      await guest.write(0, Buffer.alloc(block, 1))
      await guest.disconnect()
      const { id } = await begin(a, b, 'web01', 'now')
      await untilMigration(a, id, ({ state }) => state === 'done')
      await a.stop()
      await a.restart()
      const released: DiskView = await a.control.showDisk('web01')
      assert.deepEqual([released.state, released.generation], ['released', 2])
      assert.deepEqual(await NbdClient.list(a.uri('')), [])

      await must(a, 'disk', 'delete', 'web01')
      await a.stop()
      const again = await a.restart().then(
        async () => (await a.control.listDisks())[0] as DiskView | undefined,
        () => undefined,
      )
      const isOwnerAgain = again?.id === released.id && again.state === 'owned'
      assert(!isOwnerAgain, `the same disk is owned twice, here in generation ${again?.generation}`)
    })
  })

  it('a second daemon on the same root is refused, and the first goes on', async () => {
    const site = await Site.start('osaka')
    await createDisk(site, 'web01', mebibyte)
    const guest = await attach(site, 'web01')
    const view = refusalOf(await serveRefused('--root', site.root), 3, 'locked')
    assert.match(view.message, new RegExp(`${site.pid}`))
    await guest.write(0, Buffer.alloc(block, 1))
    await site.control.showDisk('web01')
  })

  it('an address that cannot be listened on is refused with a sentence', async () => {
    const site = await Site.start('osaka')
    const elsewhere = () => ['--root', join(folder(), 'root')]
    refusalOf(await serveRefused(...elsewhere(), '--nbd', `nbd://127.0.0.1:${site.nbdPort}`), 3)
    refusalOf(await serveRefused(...elsewhere(), '--nbd', 'http://127.0.0.1'), 2)
    refusalOf(await serveRefused(...elsewhere(), '--nbd', 'nbd://0.0.0.0:0'), 3, 'insecure')
    refusalOf(await serveRefused(...elsewhere(), '--peer', `tcp://127.0.0.1:${site.peerPort}`), 3)
    refusalOf(await serveRefused(...elsewhere(), '--peer', 'carrier-pigeon://x'), 3, 'transport-unknown')
    refusalOf(await serveRefused(...elsewhere(), '--control', site.controlSocket), 3, 'control-in-use')
    await must(site, 'status')
  })

  it('SIGTERM while clients write: what was answered is there, connections are dropped without an error, exit 0', async () => {
    const site = await Site.start('osaka')
    await createDisk(site, 'web01', 4 * mebibyte)
    const slots = 16
    const answered = new Array<number>(slots).fill(0)
    const guest = await attach(site, 'web01')
    const endings = answered.map(async (_, slot) => {
      for (let version = 1; ; version++) {
        const bytes = Buffer.alloc(block)
        bytes.writeUInt32LE(version)
        try {
          await guest.write(slot * block, bytes)
          answered[slot] = version
        } catch (error) {
          return (error as Error).name
        }
      }
    })
    await until('the guest writes', () => (answered[0]! > 50 ? true : undefined))
    assert.equal(await site.stop(), 0)
    assert.deepEqual(new Set(await Promise.all(endings)), new Set(['NbdConnectionError']))
    await site.restart()
    const after = await attach(site, 'web01')
    for (const [slot, version] of answered.entries()) {
      const seen = (await after.read(slot * block, block)).readUInt32LE(0)
      assert([version, version + 1].includes(seen), `slot ${slot}: answered ${version}, there is ${seen}`)
    }
  })

  it('SIGTERM while a read waits for a source that is away: exit 0, the connection is dropped without an error', async () => {
    const [a, b] = await Promise.all([Site.start('osaka'), Site.start('tokyo')])
    await pair(a, b)
    await createDisk(a, 'web01', 4 * mebibyte)
    await (await attach(a, 'web01')).write(0, Buffer.alloc(4 * mebibyte, 1))
    const { id } = await begin(a, b, 'web01', 'now', { maxRate: 64 * 1024 })
    await untilMigration(b, id, ({ state }) => state === 'copying')
    await a.kill()
    const guest = await attach(b, 'web01')
    const read = guest.read(3 * mebibyte, block).catch((error: Error) => error.name)
    await guest.write(0, Buffer.alloc(block, 2))
    assert.equal(await b.stop(), 0)
    assert.equal(await read, 'NbdConnectionError')
  })

  it('a data folder that has lost a block file serves its other disks, and says what is wrong', async () => {
    const site = await Site.start('osaka')
    const { path } = await createDisk(site, 'web01', mebibyte)
    await createDisk(site, 'web02', mebibyte)
    await site.stop()
    await rm(path)
    await site.restart()
    const shown: DiskView = await site.control.showDisk('web01')
    assert.match(shown.trouble ?? '', /cannot be opened/)
    await assert.rejects(NbdClient.connect(site.uri('web01')))
    await (await attach(site, 'web02')).write(0, Buffer.alloc(block, 1))
  })
})

async function rawImage(name: string): Promise<string> {
  const place = join(folder(), 'i')
  await mkdir(place)
  const path = join(place, name)
  await writeFile(path, '')
  await truncate(path, mebibyte)
  return path
}
