// The way back: a disk that returns to a site which kept its bytes sends what has changed since, and little more.

import assert from 'node:assert/strict'
import { randomFillSync } from 'node:crypto'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { attach, createDisk, endSitesAfterEach, must, readAll, type Site, twoSites, untilDisk } from './sites.ts'

const block = 4096
const mebibyte = 2 ** 20
const sizeBytes = 64 * mebibyte
/** Digests and what is said besides: of 64 MiB, those of 1,024 cells, and of the blocks of those that differ. */
const askedBytes = 256 * 1024

/** A disk of random bytes, but for its last quarter, which is a hole; and nobody attached to it. */
async function sitesWithRandomDisk(): Promise<{ a: Site; b: Site; bytes: Buffer }> {
  const { a, b } = await twoSites()
  await createDisk(a, 'web01', sizeBytes)
  const bytes = Buffer.alloc(sizeBytes)
  randomFillSync(bytes, 0, 0.75 * sizeBytes)
  await write(
    a,
    bytes,
    Array.from({ length: 48 }, (_, index) => index * mebibyte),
    mebibyte,
  )
  return { a, b, bytes }
}

/** What `bytes` has at the offsets is written to the disk at a site. */
async function write(site: Site, bytes: Buffer, offsets: readonly number[], lengthBytes: number): Promise<void> {
  const guest = await attach(site, 'web01')
  for (const at of offsets) await guest.write(at, bytes.subarray(at, at + lengthBytes))
  await guest.flush()
  await guest.disconnect()
  await untilDisk(site, 'web01', ({ sessions }) => sessions === 0)
}

const move = (from: Site, to: Site, ...more: string[]) =>
  must(from, 'migrate', 'web01', '--to', to.name, '--switchover', 'now', ...more)

async function isWhole(site: Site, bytes: Buffer): Promise<void> {
  const guest = await attach(site, 'web01')
  assert((await readAll(guest)).equals(bytes), `web01 at ${site.name}`)
  await guest.disconnect()
}

describe('the way back', function () {
  this.timeout(120_000)
  endSitesAfterEach()

  it('promise 8: sends what has changed since, and the rest is spared, compared and whole', async () => {
    const { a, b, bytes } = await sitesWithRandomDisk()
    const there = await move(a, b)
    assert.deepEqual([there.bytes.sent, there.bytes.spared], [48 * mebibyte, 0])

    const offsets = Array.from({ length: 40 }, (_, index) => index * mebibyte + 5 * block)
    for (const at of offsets) randomFillSync(bytes, at, block)
    bytes.fill(0, 41 * mebibyte, 42 * mebibyte)
    await write(b, bytes, offsets, block)
    const zeroing = await attach(b, 'web01')
    await zeroing.writeZeroes(41 * mebibyte, mebibyte)
    await zeroing.disconnect()
    await untilDisk(b, 'web01', ({ sessions }) => sessions === 0)

    const back = await move(b, a)
    const changed = offsets.length * block
    assert.equal(back.bytes.sent, changed, 'what has changed, and no more')
    assert.equal(back.bytes.spared, 47 * mebibyte - changed)
    assert.equal(back.bytes.data, 47 * mebibyte)
    assert.equal(back.verified, true)
    await isWhole(a, bytes)
    const { path, allocated } = await a.control.showDisk('web01')
    assert(allocated <= 47 * mebibyte + askedBytes, 'what is zero takes no room')
    assert.equal(statSync(path).blocks * 512, allocated)
    assert.deepEqual(
      readdirSync(dirname(path)).filter((name) => name.endsWith('.raw')),
      [path.slice(dirname(path).length + 1)],
      'the old bytes are gone once they are of no use',
    )
  })

  it('needs no old bytes: where they were deleted, all is sent', async () => {
    const { a, b, bytes } = await sitesWithRandomDisk()
    await move(a, b, '--source', 'delete', '--yes')
    assert(!existsSync((await a.control.showDisk('web01')).path))
    const back = await move(b, a)
    assert.deepEqual([back.bytes.sent, back.bytes.spared, back.verified], [48 * mebibyte, 0, true])
    await isWhole(a, bytes)
  })
})
