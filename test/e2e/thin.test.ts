// Thin stays thin: blocks of zeros that stand in a file as data are found by looking, by the same grain on every way of a
// disk, and are neither sent nor allocated.

import assert from 'node:assert/strict'
import { randomFillSync } from 'node:crypto'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { needTool } from '../tools.ts'
import { nbdkit } from './nbd-servers.ts'
import {
  attach,
  begin,
  createDisk,
  endSitesAfterEach,
  folder,
  must,
  pair,
  readAll,
  Site,
  twoSites,
  untilDisk,
  untilMigration,
} from './sites.ts'

const block = 4096
const mebibyte = 2 ** 20
const sizeBytes = 64 * mebibyte + 512
/** One in each mebibyte; the last one is the short one at the end. */
const dataBytes = 64 * block + 512
/** What a file system needs to remember where so many pieces lie. */
const slackBytes = 32 * block

/** A raw image without a hole: it is written from its first byte to its last. */
function denseImage(): { path: string; bytes: Buffer } {
  const path = join(folder(), 'web01.img')
  const bytes = Buffer.alloc(sizeBytes)
  for (let at = 0; at < sizeBytes; at += mebibyte) randomFillSync(bytes, at, Math.min(block, sizeBytes - at))
  writeFileSync(path, bytes)
  assert(statSync(path).blocks * 512 >= sizeBytes - block, 'no hole')
  return { path, bytes }
}

describe('thin stays thin', function () {
  this.timeout(60_000)
  endSitesAfterEach()

  /** The disk has these bytes, and its file no more room than they need. */
  async function assertThin(site: Site, disk: string, bytes: Buffer): Promise<void> {
    const { allocated, path } = await site.control.showDisk(disk)
    assert(allocated <= dataBytes + slackBytes, `${allocated} bytes are allocated`)
    assert.equal(statSync(path).blocks * 512, allocated, 'what is shown is true')
    assert((await readAll(await attach(site, disk))).equals(bytes))
  }

  it('from a raw image', async () => {
    const { path, bytes } = denseImage()
    const site = await Site.start('osaka')
    const made = await must(site, 'disk', 'create', 'web01', '--from', path)
    assert(made.allocated <= dataBytes + slackBytes, `${made.allocated} bytes are allocated`)
    await assertThin(site, 'web01', bytes)
  })

  it('from an NBD server that says nothing of zeros', async function () {
    needTool(this, 'nbdkit')
    const { path, bytes } = denseImage()
    const site = await Site.start('osaka')
    const server = await nbdkit('--filter=noextents', 'file', path)
    await must(site, 'disk', 'create', 'web01', '--from', server.uri)
    await assertThin(site, 'web01', bytes)
  })

  it('over a move: what is sent and what is allocated is the data', async () => {
    const { path, bytes } = denseImage()
    const [a, b] = [await Site.start('osaka', { files: [path] }), await Site.start('tokyo')]
    await pair(a, b)
    const { id } = await begin(a, b, 'web01', 'now')
    const { bytes: counts, verified } = await untilMigration(b, id, ({ state }) => state === 'done')
    assert.equal(verified, true)
    assert.deepEqual(
      { sent: counts.sent, data: counts.data, skippedZero: counts.skippedZero, resent: counts.resent },
      { sent: dataBytes, data: dataBytes, skippedZero: sizeBytes - dataBytes, resent: 0 },
    )
    await assertThin(b, 'web01', bytes)
  })

  it('over a move there and back, of data in pieces of all sizes: no more is allocated than at the source, and 1 %', async () => {
    const { a, b } = await twoSites()
    await createDisk(a, 'web01', 256 * mebibyte)
    const guest = await attach(a, 'web01')
    const bytes = randomFillSync(Buffer.alloc(mebibyte))
    for (let at = 0, index = 0; at + mebibyte <= 256 * mebibyte; index++) {
      const length = [block, 16 * block, mebibyte][index % 3]!
      await guest.write(at, bytes.subarray(0, length))
      if (index % 4 === 0) await guest.write(at + length, Buffer.alloc(8 * block)) // Zeros that stand there as data.
      at += length + (1 + (index % 5)) * 64 * block
    }
    await guest.flush()
    await guest.disconnect()
    await untilDisk(a, 'web01', ({ sessions }) => sessions === 0)
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      const source = (await from.control.showDisk('web01')).allocated
      await must(from, 'migrate', 'web01', '--to', to.name, '--switchover', 'now')
      const { allocated } = await to.control.showDisk('web01')
      assert(allocated <= source * 1.01, `${allocated} at the destination, ${source} at the source`)
    }
  })

  it('from a disk that is arriving, into a file, and what the guest had fetched meanwhile is thin too', async () => {
    const { path, bytes } = denseImage()
    const [a, b] = [await Site.start('osaka', { files: [path] }), await Site.start('tokyo')]
    await pair(a, b)
    const { id } = await begin(a, b, 'web01', 'manual')
    await untilMigration(b, id, ({ state }) => state === 'ready')
    await b.control.pause(id)
    await b.control.switchover(id)
    await untilDisk(b, 'web01', ({ state }) => state === 'arriving')
    const file = join(folder(), 'web01.raw')
    const result = await must(b, 'disk', 'export', 'web01', file)
    assert.equal(result.bytes.data, dataBytes)
    assert(readFileSync(file).equals(bytes))
    assert(statSync(file).blocks * 512 <= dataBytes + slackBytes)
    await b.control.resume(id)
    const { bytes: counts } = await untilMigration(b, id, ({ state }) => state === 'done')
    assert(counts.sent - counts.resent === dataBytes, `${counts.sent} sent, ${counts.resent} of them again`)
    await assertThin(b, 'web01', bytes)
  })
})
