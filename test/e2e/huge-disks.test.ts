// What a site keeps in memory of disks that arrive follows what is here of them, and not their size: a peer that moves disks of
// a pebibyte here, of which there is next to nothing, takes no memory of it.

import assert from 'node:assert/strict'
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { skipHere } from '../tools.ts'
import { afterwards, createDisk, endSitesAfterEach, must, pair, Site, untilMigration } from './sites.ts'

const mebibyte = 2 ** 20
const sizeBytes = 2 ** 50
const names = Array.from({ length: 15 }, (_, index) => `huge${index}`)
/** File systems of disks (ext4) end at 16 TiB. */
const place = '/dev/shm'

describe('disks of a pebibyte', () => {
  before(function () {
    if (!takesHugeFiles()) skipHere(this, `${place} takes no files of 1 PiB`)
  })
  endSitesAfterEach()

  it('promise 10: 15 of them that arrive take less than 100 MiB of their destination', async () => {
    const [a, b] = await Promise.all([Site.start('osaka', { root: folder() }), Site.start('tokyo', { root: folder() })])
    await pair(a, b)
    for (const name of names) await createDisk(a, name, sizeBytes)
    const before = memoryOf(b, 'VmRSS')
    const terms = { mode: 'post-copy', switchover: 'now', switchoverWaitMs: 10_000, source: 'keep' } as const
    const { id } = await a.control.migrate({ ...terms, disks: names, to: b.name })
    await untilMigration(b, id, ({ state }) => state === 'copying')
    await must(b, 'migration', 'pause', id)
    const { disks } = await b.control.showMigration(id)
    assert.deepEqual(
      disks.map(({ state }) => state),
      names.map(() => 'arriving'),
    )
    await b.stop() // What it takes up must be no more either.
    await b.restart()
    await untilMigration(b, id, ({ state, link }) => state === 'copying' && link.state === 'up')
    const more = memoryOf(b, 'VmHWM') - before
    assert(more < 100 * mebibyte, `${Math.round(more / mebibyte)} MiB more`)
  })
})

function memoryOf({ pid }: Site, what: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(new RegExp(`^${what}:\\s+(\\d+) kB$`, 'm').exec(status)![1]) * 1024
}

function folder(): string {
  const path = mkdtempSync(join(place, 'vms-'))
  afterwards(() => setImmediate(() => rmSync(path, { recursive: true, force: true })))
  return path
}

function takesHugeFiles(): boolean {
  try {
    const path = mkdtempSync(join(place, 'vms-'))
    const file = openSync(join(path, 'huge'), 'w')
    try {
      ftruncateSync(file, sizeBytes)
      return true
    } finally {
      closeSync(file)
      rmSync(path, { recursive: true })
    }
  } catch {
    return false
  }
}
