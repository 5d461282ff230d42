// What is compared with the source before it is released: bytes that went wrong at the destination are found and fetched
// again, and a source that differs for good is never released.

import assert from 'node:assert/strict'
import { randomFillSync } from 'node:crypto'
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { DiskView } from '../../src/control/types.ts'
import {
  attach,
  begin,
  endSitesAfterEach,
  folder,
  must,
  readAll,
  twoSites,
  untilDisk,
  untilMigration,
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
    const { id } = await begin(a, b, 'web01', 'now', { maxRate: 6 * mebibyte })
    const half = await untilDisk(b, 'web01', (disk) => disk.present.bytes > sizeBytes / 2)
    // Below the daemon: one bit of a block that is here, and one byte where the source has a hole.
    const file = openSync(half.path, 'r+')
    writeSync(file, Buffer.from([original[mebibyte]! ^ 1]), 0, 1, mebibyte)
    writeSync(file, Buffer.from([7]), 0, 1, 5 * mebibyte)
    closeSync(file)
    // What a guest wrote is not compared, nor lost.
    const guest = await attach(b, 'web01')
    const written = Buffer.alloc(512, 0x42)
    await guest.write(2 * mebibyte + 512, written)
    written.copy(original, 2 * mebibyte + 512)

    const done = await untilMigration(a, id, ({ state }) => state === 'done')
    assert.equal(done.verified, true)
    assert.deepEqual(await readAll(guest), original)
    assert.match(b.report(), /a range differs from the source/)
    const released: DiskView = await must(a, 'disk', 'show', 'web01')
    assert.equal(released.state, 'released')
  })
})
