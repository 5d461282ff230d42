// Data folders that were copied, moved, or lost a part: what is served is their own, or nothing is.

import assert from 'node:assert/strict'
import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { attach, createDisk, endSitesAfterEach, folder, must, refusalOf, Site, serveRefused, vmstore } from './sites.ts'

const block = 4096
const mebibyte = 2 ** 20

describe('a data folder', () => {
  endSitesAfterEach()

  async function siteWithDisk(byte: number): Promise<Site> {
    const site = await Site.start('osaka')
    await createDisk(site, 'web01', mebibyte)
    await write(site, byte)
    return site
  }

  async function write(site: Site, byte: number): Promise<void> {
    const client = await attach(site, 'web01')
    await client.write(0, Buffer.alloc(block, byte))
    await client.flush()
    await client.disconnect()
  }

  async function firstByte(site: Site): Promise<number> {
    const client = await attach(site, 'web01')
    const [byte] = await client.read(0, 1)
    await client.disconnect()
    return byte!
  }

  it('that is a copy writes into its own files, and a delete there leaves those of the original', async () => {
    const original = await siteWithDisk(1)
    await original.stop()
    const root = join(folder(), 'copy')
    cpSync(original.root, root, { recursive: true })
    const copy = await Site.start('copy', { root })
    await write(copy, 2)
    await must(copy, 'disk', 'delete', 'web01')
    await copy.stop()
    await original.restart()
    assert.equal(await firstByte(original), 1)
  })

  it('that was moved serves its disks', async () => {
    const before = await siteWithDisk(3)
    await before.stop()
    const root = join(folder(), 'moved')
    renameSync(before.root, root)
    const moved = await Site.start('moved', { root })
    assert.equal(await firstByte(moved), 3)
    assert.equal((await moved.control.showDisk('web01')).path.startsWith(root), true)
    mkdirSync(before.root) // For whoever removes it.
  })

  it('of an image that is served where it lies moves together with it', async () => {
    const [here, there] = [join(folder(), 'web01.raw'), join(folder(), 'web01.raw')]
    writeFileSync(here, Buffer.alloc(mebibyte, 4))
    const site = await Site.start('osaka', { files: [here] })
    await site.stop()
    for (const suffix of ['', '.vmstore']) renameSync(`${here}${suffix}`, `${there}${suffix}`)
    const moved = await Site.start('moved', { files: [there] })
    assert.equal(await firstByte(moved), 4)
    assert.equal((await moved.control.showDisk('web01')).path, there)
  })

  it('promise 1: beside an image of another site is no data folder that has lost its records: whose it is, is told', async () => {
    const image = join(folder(), 'web01.raw')
    writeFileSync(image, Buffer.alloc(mebibyte, 4))
    const site = await Site.start('osaka', { files: [image], root: join(folder(), 'root') })
    await site.stop()
    const view = refusalOf(await serveRefused(image), 3, 'image-of-other-site')
    assert.match(view.next!, /Serve it with the --root of that site/)
  })

  it('promise 1: whose records are missing or empty while its disks are there is refused, and left as it is', async () => {
    const site = await siteWithDisk(5)
    await site.stop()
    for (const name of readdirSync(site.root).filter((each) => each.startsWith('vmstore.sqlite')))
      rmSync(join(site.root, name))
    const missing = refusalOf(await serveRefused('--root', site.root), 3, 'damaged')
    assert.match(`${missing.message} ${missing.next}`, /which disks this site owns.* Restore/)
    writeFileSync(join(site.root, 'vmstore.sqlite'), '')
    refusalOf(await serveRefused('--root', site.root), 3, 'damaged')
    assert.equal(readdirSync(join(site.root, 'disks')).length, 1)
  })

  it('that was open to everybody is closed, and a key that others may read is refused', async () => {
    const site = await siteWithDisk(6)
    await site.stop()
    chmodSync(site.root, 0o755)
    chmodSync(join(site.root, 'vmstore.sqlite'), 0o644)
    await site.restart()
    assert.equal(statSync(site.root).mode & 0o777, 0o750)
    assert.equal(statSync(join(site.root, 'vmstore.sqlite')).mode & 0o777, 0o600)
    await site.stop()
    chmodSync(join(site.root, 'identity.key'), 0o644)
    const view = refusalOf(await serveRefused('--root', site.root), 3, 'identity-exposed')
    assert.match(view.message, /identity\.key \(mode 0644\)/)
    assert.match(view.next!, /chmod 600/)
  })

  it('keeps nothing of a disk whose record met a locked database, and says so', async () => {
    const site = await siteWithDisk(7)
    using other = new DatabaseSync(join(site.root, 'vmstore.sqlite'))
    other.exec('BEGIN IMMEDIATE')
    const view = refusalOf(await vmstore(site, 'disk', 'create', 'web02', '--size', '1M'), 1, 'records-locked')
    assert.match(view.message, /another program has .* locked/)
    other.exec('ROLLBACK')
    assert.equal(readdirSync(join(site.root, 'disks')).length, 1)
    assert.deepEqual(
      (await site.control.listDisks()).map(({ name }) => name),
      ['web01'],
    )
  })

  it('tells at its start of a folder among its disks that belongs to none', async () => {
    const site = await siteWithDisk(8)
    await site.stop()
    const stray = join(site.root, 'disks', '11111111-1111-4111-8111-111111111111')
    mkdirSync(stray)
    await site.restart()
    assert.match(site.report(), new RegExp(`${stray}.*belongs to no disk on record`))
    assert(readFileSync(join(site.root, 'vmstore.sqlite')).length > 0)
  })
})
