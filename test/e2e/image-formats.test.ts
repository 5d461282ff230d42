// The format of an image as an operator sees it: told, shown and said; on its way in, served, and on its way out and back.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { copyFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { streamVmdkOf, vhdOf, writeGpt } from '../image/builders.ts'
import { findTool, needTool, skipHere } from '../tools.ts'
import { qemuNbd } from './nbd-servers.ts'
import {
  afterwards,
  attach,
  endSitesAfterEach,
  folder,
  must,
  program,
  readAll,
  refusalOf,
  Site,
  serveRefused,
  tool,
  vmstore,
} from './sites.ts'

const mebibyte = 2 ** 20

describe('the format of an image', function () {
  this.timeout(120_000)
  endSitesAfterEach()
  let site: Site
  let place: string
  let disk: Buffer
  beforeEach(async () => {
    site = await Site.start('osaka')
    place = folder()
    disk = Buffer.alloc(8 * mebibyte)
    disk.fill('bytes of the disk ', 3 * mebibyte, 4 * mebibyte)
    writeGpt(disk)
  })

  async function written(name: string, bytes: Buffer): Promise<string> {
    const path = join(place, name)
    await writeFile(path, bytes)
    return path
  }

  async function bytesOf(name: string): Promise<Buffer> {
    const client = await attach(site, name)
    const bytes = await readAll(client)
    await client.disconnect()
    return bytes
  }

  it('stands in the JSON, with what stayed behind; an empty disk has none', async function () {
    needTool(this, 'qemu-img', 'qemu-nbd')
    const image = join(place, 'web01.qcow2')
    await tool('qemu-img', 'convert', '-O', 'qcow2', await written('web01.raw', disk), image)
    await tool('qemu-img', 'snapshot', '-c', 'monday', image)
    const { format, notes, size } = await must(site, 'disk', 'create', 'web01', '--from', image)
    assert.deepEqual([format, size], ['qcow2', disk.length])
    assert.match(notes.join(), /^An internal snapshot of the image stayed behind/)
    assert((await bytesOf('web01')).equals(disk))
    const empty = await must(site, 'disk', 'create', 'empty', '--size', '1M')
    assert.deepEqual([empty.format, empty.notes], [null, []])
    const exported = await must(site, 'disk', 'create', 'web02', '--from', site.uri('web01'))
    assert.deepEqual([exported.format, exported.notes], ['raw', []])
  })

  it('an export that looks like the file of an image is taken as it is, and the operator is told', async function () {
    needTool(this, 'qemu-img', 'qemu-nbd')
    const image = join(place, 'web01.qcow2')
    await tool('qemu-img', 'convert', '-O', 'qcow2', await written('web01.raw', disk), image)
    const server = await qemuNbd('-f', 'raw', '-x', 'disk', image)
    const { notes } = await must(site, 'disk', 'create', 'web01', '--from', server.uri)
    assert.match(notes.join(), /looks like a qcow2 image; its bytes were taken as they are/)
    assert((await bytesOf('web01')).equals(readFileSync(image)))
  })

  it('--format says it: raw takes the bytes as they are, another must be there', async function () {
    needTool(this, 'qemu-img', 'qemu-nbd')
    const vhd = vhdOf(disk, { type: 'fixed', creator: 'vbox' })
    const image = await written('web01.img', vhd)
    const create = (name: string, ...flags: string[]) => vmstore(site, 'disk', 'create', name, ...flags)
    refusalOf(await create('web01', '--from', image), 3, 'format-mismatch')
    assert.equal((await create('web01', '--from', image, '--format', 'vhd')).exit, 0)
    assert((await bytesOf('web01')).equals(disk))
    assert.equal((await create('web02', '--from', image, '--format', 'raw')).exit, 0)
    assert((await bytesOf('web02')).equals(vhd))
    refusalOf(await create('web03', '--from', image, '--format', 'qcow2'), 3, 'format-mismatch')
    refusalOf(await create('web03', '--from', image, '--format', 'floppy'), 2)
    refusalOf(await create('web03', '--size', '1M', '--format', 'raw'), 2)
    refusalOf(await create('web03', '--from', site.uri('web01'), '--format', 'qcow2'), 2, 'format-mismatch')
  })

  it('a file that is served is raw, and whole: what is another format, a part or cut short is refused', async () => {
    const refused: readonly (readonly [name: string, bytes: Buffer, code: string])[] = [
      ['delta.vhd', vhdOf(disk, { type: 'differencing', creator: 'vbox' }), 'image-not-alone'],
      ['delta.img', vhdOf(disk, { type: 'differencing', creator: 'vbox' }), 'image-not-alone'],
      ['stream.vmdk', streamVmdkOf(disk), 'not-raw'],
      ['cut.raw', disk.subarray(0, 6 * mebibyte), 'image-cut'],
      ['disk.img.xz', Buffer.concat([Buffer.from('\xfd7zXZ\0', 'latin1'), Buffer.alloc(506)]), 'not-raw'],
      ['disk.img', Buffer.concat([Buffer.from('\x1f\x8b\x08', 'latin1'), Buffer.alloc(509)]), 'not-raw'],
      ['disk.qcow2', disk, 'format-mismatch'],
    ]
    for (const [name, bytes, code] of refused) {
      const path = await written(name, bytes)
      const view = refusalOf(await serveRefused(path, '--root', join(folder(), 'root')), 3, code)
      assert.doesNotMatch(view.next!, /qemu-img convert (?!is none)/, 'it could lose bytes')
    }
  })

  it('a disk whose guest wrote the header of another format goes out and comes back as what it was', async function () {
    needTool(this, 'qemu-img')
    const qcow2 = join(place, 'inner.qcow2')
    await tool('qemu-img', 'create', '-q', '-f', 'qcow2', qcow2, '64M')
    await must(site, 'disk', 'create', 'web01', '--size', '8M')
    const guest = await attach(site, 'web01')
    await guest.write(0, readFileSync(qcow2).subarray(0, 65_536))
    await guest.flush()
    await guest.disconnect()
    const bytes = await bytesOf('web01')
    const misleading = join(place, 'web01.img')
    const view = refusalOf(await vmstore(site, 'disk', 'export', 'web01', misleading, '--force'), 3, 'name-misleads')
    assert.match(view.next!, /\.raw.*--format raw/)
    const file = join(place, 'web01.raw')
    const exported = await must(site, 'disk', 'export', 'web01', file, '--force')
    assert.equal(exported.likeness, 'a qcow2 image')
    refusalOf(await vmstore(site, 'disk', 'create', 'web02', '--from', file), 3, 'not-raw')
    const back = await must(site, 'disk', 'create', 'web02', '--from', file, '--format', 'raw')
    assert.equal(back.size, 8 * mebibyte)
    assert((await bytesOf('web02')).equals(bytes))
  })

  it('a block device becomes a disk, raw or with an image on it', async function () {
    needTool(this, 'losetup', 'qemu-img', 'qemu-nbd')
    const raw = await written('web01.raw', disk)
    await must(site, 'disk', 'create', 'web01', '--from', await loopOver(this, raw))
    assert((await bytesOf('web01')).equals(disk))
    const qcow2 = join(place, 'web01.qcow2')
    await tool('qemu-img', 'convert', '-O', 'qcow2', raw, qcow2)
    await truncate(qcow2, 16 * mebibyte)
    const { format } = await must(site, 'disk', 'create', 'web02', '--from', await loopOver(this, qcow2))
    assert.equal(format, 'qcow2')
    assert((await bytesOf('web02')).equals(disk))
  })

  async function loopOver(context: Mocha.Context, file: string): Promise<string> {
    const made = await program(findTool('losetup')!, ['--find', '--show', '--read-only', file])
    if (made.code !== 0) skipHere(context, `this host gives no loop device (${made.stderr.trim()})`)
    const device = made.stdout.trim()
    afterwards(() => program(findTool('losetup')!, ['--detach', device]))
    return device
  }

  it('archives of tar and gzip are refused by name', async function () {
    needTool(this, 'tar', 'gzip')
    const raw = await written('web01.raw', disk)
    await tool('tar', '-cf', join(place, 'web01.tar'), '-C', place, 'web01.raw')
    await copyFile(join(place, 'web01.tar'), join(place, 'web01.img'))
    await tool('gzip', '--keep', raw)
    for (const [name, what] of [
      ['web01.tar', /a tar archive/],
      ['web01.img', /a tar archive/],
      ['web01.raw.gz', /gzip-compressed data/],
    ] as const) {
      const view = refusalOf(await vmstore(site, 'disk', 'create', 'web01', '--from', join(place, name)), 3, 'not-raw')
      assert.match(view.message, what)
      assert(view.next!.includes(join(place, name)), view.next)
    }
  })
})
