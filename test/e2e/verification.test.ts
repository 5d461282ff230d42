// What is compared with the source before it is released: bytes that went wrong at the destination are found and fetched
// again, and a source that differs for good is never released.

import assert from 'node:assert/strict'
import { randomFillSync } from 'node:crypto'
import { closeSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { DiskView } from '../../src/control/types.ts'
import {
  attach,
  begin,
  endSitesAfterEach,
  fetchRest,
  folder,
  must,
  readAll,
  refusalOf,
  twoSites,
  untilDisk,
  untilMigration,
  vmstore,
} from './sites.ts'

const mebibyte = 2 ** 20
const sizeBytes = 24 * mebibyte

describe('the comparison with the source', () => {
  endSitesAfterEach()

  it('promise 8: a bit that flipped at the destination is found and fetched again before the source is released', async () => {
    const { a, b } = await twoSites()
    const original = randomFillSync(Buffer.alloc(sizeBytes))
    original.fill(0, 4 * mebibyte, 6 * mebibyte)
    const image = join(folder(), 'image.raw')
    writeFileSync(image, original)
    await must(a, 'disk', 'create', 'web01', '--from', image)
    const { id } = await begin(a, b, 'web01', 'now', { maxRate: 2 * mebibyte })
    const part = await untilDisk(b, 'web01', (disk) => disk.present.bytes > 7 * mebibyte)
    await b.control.pause(id)
    // Below the daemon: one bit of a block that is here, and one byte where the source has a hole.
    const file = openSync(part.path, 'r+')
    writeSync(file, Buffer.from([original[mebibyte]! ^ 1]), 0, 1, mebibyte)
    writeSync(file, Buffer.from([7]), 0, 1, 5 * mebibyte)
    closeSync(file)
    // What a guest wrote is not compared, nor lost.
    const guest = await attach(b, 'web01')
    const written = Buffer.alloc(512, 0x42)
    await guest.write(2 * mebibyte + 512, written)
    written.copy(original, 2 * mebibyte + 512)
    await b.control.resume(id)
    await fetchRest(b, 'web01')

    const done = await untilMigration(a, id, ({ state }) => state === 'done')
    assert.equal(done.verified, true)
    assert.deepEqual(await readAll(guest), original)
    assert.match(b.report(), /a range differs from the source/)
    const released: DiskView = await must(a, 'disk', 'show', 'web01')
    assert.equal(released.state, 'released')
  })

  it('promise 8: disk verify finds a flipped bit of either side, names its range, and it is fetched again before the release', async () => {
    const { a, b } = await twoSites()
    const original = randomFillSync(Buffer.alloc(sizeBytes))
    const image = join(folder(), 'image.raw')
    writeFileSync(image, original)
    await must(a, 'disk', 'create', 'web01', '--from', image)
    refusalOf(await vmstore(a, 'disk', 'verify', 'web01'), 3, 'nothing-to-compare')
    const { id } = await begin(a, b, 'web01', 'now', { maxRate: 2 * mebibyte })
    await untilDisk(b, 'web01', (disk) => disk.present.bytes > 4 * mebibyte)
    await b.control.pause(id)
    const part = await b.control.showDisk('web01')
    const clean = await must(b, 'disk', 'verify', 'web01')
    assert(clean.bytes.compared >= part.present.bytes && clean.bytes.missing > 0, JSON.stringify(clean.bytes))
    assert.deepEqual(clean.differing, [])
    refusalOf(await vmstore(a, 'disk', 'verify', 'web01'), 3, 'nothing-to-compare')

    flip(part.path, mebibyte)
    flip((await a.control.showDisk('web01')).path, 3 * mebibyte)
    original[3 * mebibyte]! ^= 1 // Who of the two is right nobody can tell: the frozen source is what counts.
    const found = await vmstore(b, 'disk', 'verify', 'web01')
    assert.equal(found.exit, 1)
    assert.deepEqual(
      found.json.differing.map(({ offset }: { offset: number }) => offset),
      [mebibyte, 3 * mebibyte],
    )
    assert.deepEqual((await b.control.showDisk('web01')).state, 'arriving')
    assert.deepEqual((await must(b, 'disk', 'verify', 'web01')).differing, [], 'it is missing again, and not wrong')
    await must(b, 'migration', 'resume', id)
    await fetchRest(b, 'web01')
    const done = await untilMigration(a, id, ({ state }) => state === 'done')
    assert.deepEqual([done.verified, done.differed], [true, found.json.differing], 'the report names it at both sites')
    assert.deepEqual((await b.control.showMigration(id)).differed, found.json.differing)
    assert.deepEqual(await readAll(await attach(b, 'web01')), original)
    refusalOf(await vmstore(b, 'disk', 'verify', 'web01'), 3, 'nothing-to-compare')
  })

  it('disk verify is refused while the source is out of reach', async () => {
    const { a, b } = await twoSites()
    const image = join(folder(), 'image.raw')
    writeFileSync(image, randomFillSync(Buffer.alloc(sizeBytes)))
    await must(a, 'disk', 'create', 'web01', '--from', image)
    await begin(a, b, 'web01', 'now', { maxRate: 64 * 1024 })
    await untilDisk(b, 'web01', ({ state }) => state === 'arriving')
    await a.kill()
    refusalOf(await vmstore(b, 'disk', 'verify', 'web01'), 3, 'peer-unreachable')
  })
})

/** Below the daemon: one bit. */
function flip(path: string, offset: number): void {
  const file = openSync(path, 'r+')
  const byte = Buffer.alloc(1)
  readSync(file, byte, 0, 1, offset)
  byte[0]! ^= 1
  writeSync(file, byte, 0, 1, offset)
  closeSync(file)
}
