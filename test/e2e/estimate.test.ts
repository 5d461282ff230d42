// What a move would cost, said before, and what it has cost, beside it.

import assert from 'node:assert/strict'
import { randomFillSync } from 'node:crypto'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { attach, createDisk, endSitesAfterEach, folder, must, pair, refusalOf, Site, vmstore } from './sites.ts'

const mebibyte = 2 ** 20
const sizeBytes = 64 * mebibyte

/** A disk at A: 16 MiB of data, as many zeros that stand there as data, and a hole; its clone source lies at B. */
async function sites(): Promise<{ a: Site; b: Site }> {
  const images = folder()
  const image = join(images, 'image.raw')
  const bytes = randomFillSync(Buffer.alloc(32 * mebibyte), 0, 16 * mebibyte)
  writeFileSync(image, bytes)
  const [a, b] = [await Site.start('osaka'), await Site.start('tokyo', { flags: ['--seed-folder', images] })]
  await pair(a, b)
  await createDisk(a, 'web01', sizeBytes)
  const guest = await attach(a, 'web01')
  for (let at = 0; at < bytes.length; at += mebibyte) await guest.write(at, bytes.subarray(at, at + mebibyte))
  await guest.flush()
  await guest.disconnect()
  return { a, b }
}

const isAbout = (bytes: number, wanted: number) =>
  assert(Math.abs(bytes - wanted) <= wanted / 8, `${bytes} is not about ${wanted}`)

describe('an estimate', function () {
  this.timeout(120_000)
  endSitesAfterEach()

  it('says what would be sent, without holes and zeros, and changes nothing', async () => {
    const { a, b } = await sites()
    const estimate = await must(a, 'migrate', 'web01', '--to', b.name, '--dry-run')
    assert.equal(estimate.bytes.disk, sizeBytes)
    isAbout(estimate.bytes.data, 16 * mebibyte)
    assert.deepEqual([estimate.bytes.spared, estimate.rate, estimate.seconds], [0, null, null])
    assert(estimate.free > 0)
    assert.deepEqual(await b.control.listDisks(), [])
    assert.deepEqual(readdirSync(join(b.root, 'disks')), [])
    assert.deepEqual([await a.control.listMigrations(), await b.control.listMigrations()], [[], []])
    assert.equal((await a.control.showDisk('web01')).migration, null)
  })

  it('says what a seed spares, and what the copy that was kept does, and how long it takes at the rate of the last', async () => {
    const { a, b } = await sites()
    const seeded = await must(a, 'migrate', 'web01', '--to', b.name, '--dry-run', '--seed', 'image.raw')
    isAbout(seeded.bytes.spared, 16 * mebibyte)
    const moved = await must(a, 'migrate', 'web01', '--to', b.name, '--switchover', 'now')
    isAbout(moved.estimate.bytes.sent, moved.bytes.sent)
    const back = await must(b, 'migrate', 'web01', '--to', a.name, '--dry-run')
    isAbout(back.bytes.spared, back.bytes.data)
    assert(back.rate > 0 && back.seconds >= 0)
    const bounded = await must(b, 'migrate', 'web01', '--to', a.name, '--dry-run', '--max-rate', '64K')
    assert.equal(bounded.rate, 65_536)
  })

  it('of a move that would be refused is refused as the move is', async () => {
    const { a, b } = await sites()
    await createDisk(b, 'web01', mebibyte)
    refusalOf(await vmstore(a, 'migrate', 'web01', '--to', b.name, '--dry-run'), 3, 'disk-exists')
    refusalOf(await vmstore(a, 'migrate', 'web02', '--to', b.name, '--dry-run'), 3, 'disk-unknown')
    refusalOf(await vmstore(b, 'migrate', 'web02', '--from', a.name, '--dry-run'), 3, 'not-here')
    await must(a, 'migrate', 'web01', '--to', b.name, '--as', 'web02', '--dry-run')
  })
})
