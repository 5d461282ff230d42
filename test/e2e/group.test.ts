// Several disks of one machine that move together: they pass at once, with the first write to any of them, and come back
// together.

import assert from 'node:assert/strict'
import type { MigrateRequest, MigrationView } from '../../src/control/types.ts'
import {
  attach,
  createDisk,
  endSitesAfterEach,
  must,
  refusalOf,
  refusedWith,
  type Site,
  twoSites,
  untilDisk,
  untilMigration,
  vmstore,
} from './sites.ts'

const block = 4096
const sizeBytes = 8 * 2 ** 20
const disks = ['web01', 'db01'] as const
type Name = (typeof disks)[number]

const filled = (byte: number, lengthBytes = block) => Buffer.alloc(lengthBytes, byte)
/** What every byte of a disk is. */
const bytesOf: Readonly<Record<Name, number>> = { web01: 1, db01: 2 }

/** Two disks at A, written all over, and nobody attached to them. */
async function sitesWithGroup(): Promise<{ a: Site; b: Site }> {
  const sites = await twoSites()
  for (const name of disks) {
    await createDisk(sites.a, name, sizeBytes)
    const guest = await attach(sites.a, name)
    await guest.write(0, filled(bytesOf[name], sizeBytes))
    await guest.disconnect()
    await untilDisk(sites.a, name, ({ sessions }) => sessions === 0)
  }
  return sites
}

function begin(
  a: Site,
  b: Site,
  switchover: MigrateRequest['switchover'],
  terms: Partial<Pick<MigrateRequest, 'maxRate' | 'switchoverWaitMs'>> = {},
): Promise<MigrationView> {
  const usual = { mode: 'post-copy', switchoverWaitMs: 60_000, source: 'keep' } as const
  return a.control.migrate({ ...usual, disks: [...disks], to: b.name, switchover, ...terms })
}

/** How both disks stand at a site: state and generation. */
const standing = async (site: Site) =>
  Promise.all(
    disks.map(async (name) => {
      const { state, generation } = await site.control.showDisk(name)
      return `${state} ${generation}`
    }),
  )

async function isWhole(site: Site, name: Name): Promise<void> {
  const guest = await attach(site, name)
  assert((await guest.read(0, sizeBytes)).equals(filled(bytesOf[name], sizeBytes)), `${name} at ${site.name}`)
  await guest.disconnect()
}

describe('several disks that move together', () => {
  endSitesAfterEach()

  for (const written of disks) {
    it(`promise 2: pass with the first write to ${written} at the destination, and not before`, async () => {
      const { a, b } = await sitesWithGroup()
      const { id, disk, bytes } = await begin(a, b, 'auto')
      assert.deepEqual([disk, bytes.disk], ['web01, db01', 2 * sizeBytes])
      const guests = await Promise.all(disks.map((name) => attach(b, name)))
      for (const [index, guest] of guests.entries()) assert((await guest.read(0, block)).equals(filled(index + 1)))
      assert.deepEqual(await standing(a), ['owned 1', 'owned 1'])

      const writer = guests[disks.indexOf(written)]!
      await writer.write(block, filled(9))
      assert.deepEqual(
        (await standing(a)).map((each) => each.split(' ')[0]).filter((state) => state === 'owned'),
        [],
        'neither is owned there any more',
      )
      assert((await writer.read(block, block)).equals(filled(9)))
      const done = await untilMigration(b, id, ({ state }) => state === 'done')
      await untilMigration(a, id, ({ state }) => state === 'done')
      assert.deepEqual(await standing(a), ['released 2', 'released 2'])
      assert.deepEqual(await standing(b), ['owned 2', 'owned 2'])
      assert.deepEqual([done.verified, done.bytes.missing], [true, 0])
      assert(done.disks.every(({ verified, ownerSide }) => verified && ownerSide === 'destination'))
    })
  }

  it('promise 1: stay at the source while a client is at work on one of them, which the refusal names', async () => {
    const { a, b } = await sitesWithGroup()
    const guest = await attach(a, 'db01')
    await guest.write(0, filled(3))
    const { id } = await begin(a, b, 'auto', { switchoverWaitMs: 500 })
    const moved = await attach(b, 'web01')
    await refusedWith('EPERM', moved.write(0, filled(9)))
    const { refusedWrites } = await b.control.showMigration(id)
    assert.match(refusedWrites!.why, /db01/)
    assert.deepEqual(await standing(a), ['owned 1', 'owned 1'])
    await guest.write(block, filled(3))
  })

  it('promise 8: go on after both daemons were killed in the middle of the copy', async () => {
    const { a, b } = await sitesWithGroup()
    const { id } = await begin(a, b, 'now', { maxRate: 2 ** 20 })
    await untilMigration(b, id, ({ state, bytes }) => state === 'copying' && bytes.missing < 2 * sizeBytes)
    await Promise.all([a.kill(), b.kill()])
    await Promise.all([a.restart(), b.restart()])
    for (const name of disks) await isWhole(b, name)
    await untilMigration(a, id, ({ state }) => state === 'done')
    assert.deepEqual(await standing(b), ['owned 2', 'owned 2'])
    for (const name of disks) await isWhole(b, name)
  })

  it('promise 1: come back together when one of them is taken back; the destination gives up both', async () => {
    const { a, b } = await sitesWithGroup()
    const { id } = await begin(a, b, 'now', { maxRate: 2 ** 16 })
    await untilMigration(b, id, ({ state }) => state === 'copying')
    await b.kill()
    const question = refusalOf(await vmstore(a, 'disk', 'reclaim', 'db01'), 3, 'not-confirmed')
    assert.match(question.message, /web01.*db01/)
    await must(a, 'disk', 'reclaim', 'db01', '--yes')
    assert.deepEqual(await standing(a), ['owned 3', 'owned 3'])
    for (const name of disks) await isWhole(a, name)
    const ended = await a.control.showMigration(id)
    assert.deepEqual([ended.state, ...ended.disks.map(({ ownerSide }) => ownerSide)], ['failed', 'source', 'source'])
    await b.restart()
    for (const name of disks) await untilDisk(b, name, ({ state }) => state === 'superseded')
  })

  it('are cancelled together', async () => {
    const { a, b } = await sitesWithGroup()
    const { id } = await begin(a, b, 'manual')
    const { state } = await b.control.cancel(id)
    assert.equal(state, 'cancelled')
    assert.deepEqual(await standing(a), ['owned 1', 'owned 1'])
    await untilMigration(a, id, (seen) => seen.state === 'cancelled')
    for (const name of disks) assert.equal((await a.control.showDisk(name)).migration, null)
  })
})
