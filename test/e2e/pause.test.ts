// The operator holds the background copy: guests go on, nothing else moves, and it lasts until it is resumed.

import assert from 'node:assert/strict'
import { setTimeout as wait } from 'node:timers/promises'
import { sitesWithData, sitesWithDisk } from './scenes.ts'
import {
  attach,
  begin,
  endSitesAfterEach,
  fetchRest,
  must,
  refusalOf,
  refusedWith,
  type Site,
  until,
  untilDisk,
  untilMigration,
  vmstore,
} from './sites.ts'

const block = 4096
const mebibyte = 2 ** 20
const sizeBytes = 40 * mebibyte
/** So slow that it is not over before the test has paused it. */
const maxRate = mebibyte
/** Long enough to see the copy, if it moves. */
const watchedMs = 1000

describe('migration pause', () => {
  endSitesAfterEach()

  it('holds the copy and not the guest, across a restart of either site, until it is resumed at the other one', async () => {
    const { a, b, id } = await copyingDisk()
    const paused = await must(b, 'migration', 'pause', id)
    assert.deepEqual([paused.state, paused.paused], ['copying', true])
    await untilMigration(a, id, (view) => view.paused)
    await standsStill(b, id)

    await b.kill()
    await a.kill()
    await Promise.all([a.restart(), b.restart()])
    for (const site of [a, b]) assert.equal((await site.control.showMigration(id)).paused, true)
    await standsStill(b, id)

    const guest = await attach(b, 'web01')
    const last = sizeBytes - 64 * block
    assert((await guest.read(last, block)).equals(Buffer.alloc(block, 7)), 'what a guest reads is fetched')
    await guest.write(last + block, Buffer.alloc(block, 8))
    await must(b, 'migration', 'pause', id) // Said twice: it is so already.

    const resumed = await must(a, 'migration', 'resume', id)
    assert.equal(resumed.paused, false)
    await fetchRest(b, 'web01')
    const done = await untilMigration(b, id, ({ state }) => state === 'done')
    assert.deepEqual([done.paused, done.verified], [false, true])
    refusalOf(await vmstore(b, 'migration', 'pause', id), 3, 'migration-over')
    assert((await guest.read(last + block, block)).equals(Buffer.alloc(block, 8)))
  })

  it('before switchover keeps no guest from taking the disk over; the copy then waits', async () => {
    const { a, b } = await sitesWithDisk(sizeBytes)
    const { id } = await begin(a, b, 'web01', 'auto')
    await must(a, 'migration', 'pause', id)
    const guest = await attach(b, 'web01')
    await guest.write(0, Buffer.alloc(block, 1))
    const view = await untilMigration(b, id, ({ state }) => state === 'copying')
    assert.equal(view.paused, true)
    await standsStill(b, id)
    await must(b, 'migration', 'resume', id)
    await untilMigration(a, id, ({ state }) => state === 'done')
  })

  it('asked for at the source is refused, and says what is open, while the destination does not answer', async () => {
    const { a, b, id } = await copyingDisk()
    await b.kill()
    const view = refusalOf(await vmstore(a, 'migration', 'pause', id), 1, 'no-answer')
    assert.match(view.next!, new RegExp(`migration pause ${id}`))
    await b.restart()
    await must(a, 'migration', 'pause', id)
    assert.equal((await b.control.showMigration(id)).paused, true)
  })
})

describe('--stall-timeout', () => {
  endSitesAfterEach()

  it('turns a read that waits for a source that is away into EIO; what is here is served, and writes go on', async () => {
    const { a, b, id } = await copyingDisk({ stallTimeoutMs: 400 })
    await a.kill()
    const guest = await attach(b, 'web01')
    const last = sizeBytes - 64 * block
    const { exposed } = await untilDisk(b, 'web01', (disk) => disk.exposed > 0)
    const view = await untilMigration(b, id, ({ connected }) => !connected)
    assert.deepEqual([view.bytes.exposed, view.bytes.missing], [exposed, exposed], 'it exists at the source only')
    const began = performance.now()
    await refusedWith('EIO', guest.read(last, block))
    assert(performance.now() - began > 350, 'it waited for so long')
    assert((await guest.read(0, block)).equals(Buffer.alloc(block, 7)))
    await guest.write(last, Buffer.alloc(block, 9))
    assert((await guest.read(last, block)).equals(Buffer.alloc(block, 9)))
    await a.restart()
    await until('the read succeeds', () =>
      guest.read(last + block, block).then(
        () => true as const,
        () => undefined,
      ),
    )
    // A read for which the source takes longer than the stall timeout fails here too.
    await until('the rest comes', () =>
      fetchRest(b, 'web01').then(
        () => true as const,
        () => undefined,
      ),
    )
    const done = await untilMigration(b, id, ({ state }) => state === 'done')
    assert.deepEqual([done.bytes.exposed, (await b.control.showDisk('web01')).exposed], [0, 0])
  })
})

/** A disk full of sevens, a part of which has been copied from A to B. */
async function copyingDisk(terms: { stallTimeoutMs?: number } = {}): Promise<{ a: Site; b: Site; id: string }> {
  const { a, b } = await sitesWithData(sizeBytes)
  const { id } = await begin(a, b, 'web01', 'now', { maxRate, ...terms })
  await untilMigration(b, id, ({ bytes }) => bytes.missing < sizeBytes - mebibyte)
  return { a, b, id }
}

/** What was in flight lands; then nothing does. */
async function standsStill(site: Site, id: string): Promise<void> {
  let last = -1
  await until('nothing lands any more', async () => {
    const { missing } = (await site.control.showMigration(id)).bytes
    const isStill = missing === last
    last = missing
    return isStill || undefined
  })
  await wait(watchedMs) // There is no event for what does not happen.
  const view = await site.control.showMigration(id)
  assert.deepEqual([view.state, view.bytes.missing], ['copying', last])
  assert(last > 0)
}
