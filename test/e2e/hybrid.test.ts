// A disk is copied ahead of its switchover while its guest writes: it is kept in step until the machine moves, and neither a kill
// of a site nor a pause has it begin from zero.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { MigrateRequest, MigrationView } from '../../src/control/types.ts'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { Guest, makeGuestImage } from './guest.ts'
import {
  attach,
  endSitesAfterEach,
  fetchRest,
  folder,
  must,
  refusalOf,
  type Site,
  twoSites,
  until,
  untilDisk,
  untilMigration,
  vmstore,
} from './sites.ts'

const mebibyte = 2 ** 20
const sizeBytes = 96 * mebibyte
/** Three of four of the image's mebibytes. */
const dataBytes = 72 * mebibyte
/** So slow that a test can do something while it is copied. */
const slow = 8 * mebibyte
/** What may come again after a crash (promise 8). */
const againBytes = 64 * mebibyte
/** Of which that is much less than what is copied before the kill. */
const largeBytes = 256 * mebibyte
const largeDataBytes = 192 * mebibyte
/** Of one write of the guest, in whole blocks. */
const longestWriteBytes = 56 * 1024
const requestsPerSecond = 60

interface Scene {
  readonly a: Site
  readonly b: Site
  readonly guest: Guest
  /** Where the guest connects next. */
  place: Site
}

async function scene(diskBytes = sizeBytes): Promise<Scene> {
  const { a, b } = await twoSites()
  const image = join(folder(), 'web01.img')
  await makeGuestImage(image, diskBytes)
  await must(a, 'disk', 'create', 'web01', '--from', image)
  const made: Scene = {
    a,
    b,
    guest: new Guest({
      ...{ seed: 11, sizeBytes: diskBytes, requestsPerSecond },
      connect: () => NbdClient.connect(made.place.uri('web01'), { requestTimeoutMs: 60_000 }),
    }),
    place: a,
  }
  return made
}

function move({ a, b }: Scene, terms: Partial<MigrateRequest> = {}): Promise<MigrationView> {
  const usual = { mode: 'hybrid', switchover: 'auto', switchoverWaitMs: 60_000, source: 'keep' } as const
  return a.control.migrate({ ...usual, disk: 'web01', to: b.name, ...terms })
}

const isReady = ({ state }: MigrationView) => state === 'ready'

/** The guest leaves the source, as a machine that is moved, and goes on at the destination. */
async function moveGuest(scene: Scene): Promise<void> {
  await scene.guest.stop()
  scene.place = scene.b
  scene.guest.start()
}

async function endsWhole({ b, guest }: Scene, id: string): Promise<MigrationView> {
  const done = await untilMigration(b, id, ({ state }) => state === 'done')
  await guest.stop()
  await guest.verify(await attach(b, 'web01'))
  assert.deepEqual([done.mode, done.verified, done.bytes.missing], ['hybrid', true, 0])
  return done
}

describe('hybrid: a disk is copied ahead of its switchover', () => {
  endSitesAfterEach()

  it('while its guest writes, until it is ready; hardly anything is left to be fetched after its first write there', async () => {
    const made = await scene()
    const { a, b, guest } = made
    guest.start()
    const { id, state } = await move(made, { maxRate: 4 * slow })
    assert.equal(state, 'pre-copying')
    const ready = await untilMigration(b, id, isReady)
    assert(ready.ahead?.readyAt, 'it is said since when')
    assert(ready.ahead.leftBytes! < sizeBytes / 4, `${ready.ahead.leftBytes} bytes are left`)
    assert(ready.bytes.data >= dataBytes, 'all of it was copied')
    await untilMigration(a, id, (view) => isReady(view) && view.ahead?.readyAt !== null)
    assert.equal((await b.control.showDisk('web01')).state, 'incoming')
    assert.equal((await b.control.showDisk('web01')).present.bytes, 0, 'nothing of it counts before switchover')

    await moveGuest(made)
    const taken = await untilDisk(b, 'web01', (disk) => disk.state !== 'incoming')
    assert(taken.present.bytes > sizeBytes / 2, `${taken.present.bytes} bytes were there at once`)
    const done = await endsWhole(made, id)
    assert(done.seconds.precopy > 0)
    assert(done.bytes.data < 2 * dataBytes)
  })

  for (const side of ['source', 'destination'] as const) {
    it(`promise 8: after a kill of the ${side} it goes on where it was`, async () => {
      const made = await scene(largeBytes)
      const { a, b, guest } = made
      guest.start()
      const { id } = await move(made, { maxRate: 3 * slow, switchover: 'manual' })
      await untilMigration(b, id, ({ bytes }) => bytes.data > (3 / 4) * largeDataBytes)
      await guest.stop()
      const killed = side === 'source' ? a : b
      await killed.kill()
      await killed.restart()
      for (const site of [a, b]) await untilMigration(site, id, isReady)
      await untilMigration(b, id, ({ ahead }) => ahead?.leftBytes === 0)
      const { bytes } = await a.control.showMigration(id)
      const written = guest.counts.writes * longestWriteBytes
      // From zero it would be three quarters more.
      assert(bytes.sent <= largeDataBytes + againBytes + written, `${bytes.sent} bytes were sent of ${largeDataBytes}`)
      made.place = b
      await must(b, 'migration', 'switchover', id)
      guest.start()
      await endsWhole(made, id)
    })
  }

  it('by hand: what the guest writes is kept in step, until the operator says the word', async () => {
    const made = await scene()
    const { b, guest } = made
    guest.start()
    const { id } = await move(made, { switchover: 'manual' })
    await untilMigration(b, id, isReady)
    const written = guest.counts.writes
    await until('the guest has written for a while', () => (guest.counts.writes > written + 200 ? true : undefined))
    await guest.stop()
    // Nobody writes any more: all of it comes, though nobody asks for the disk. What a pass says that began before says nothing.
    const { passes } = (await b.control.showMigration(id)).ahead!
    await untilMigration(b, id, ({ ahead }) => ahead!.passes >= passes + 2 && ahead!.leftBytes === 0)
    await must(made.a, 'migration', 'switchover', id)
    const taken = await untilDisk(b, 'web01', (disk) => disk.state !== 'incoming')
    assert.equal(taken.present.bytes, sizeBytes, 'nothing was left to be fetched')
    made.place = b
    guest.start()
    await endsWhole(made, id)
  })

  it('a pause holds it, and a resume lets it go on', async () => {
    const made = await scene()
    const { a, b } = made
    const { id } = await move(made, { maxRate: slow, switchover: 'manual' })
    await untilMigration(b, id, ({ bytes }) => bytes.data > 0)
    await must(a, 'migration', 'pause', id)
    const held = await untilMigration(b, id, ({ rate, paused }) => paused && rate === 0)
    assert.equal(held.state, 'pre-copying')
    await must(a, 'migration', 'resume', id)
    await untilMigration(b, id, isReady)
  })

  it('cancelled before it is ready, it leaves nothing but a seed, and the source goes on', async () => {
    const made = await scene()
    const { a, b, guest } = made
    guest.start()
    const { id } = await move(made, { maxRate: slow })
    await untilMigration(b, id, ({ bytes }) => bytes.data > 0)
    await must(a, 'migration', 'cancel', id)
    await until('the destination has left it', async () =>
      (await b.control.listDisks()).every(({ state }) => state === 'released') ? true : undefined,
    )
    assert.equal((await a.control.showDisk('web01')).state, 'owned')
    await guest.stop()
    await guest.verify(await attach(a, 'web01'))
  })

  it("the operator's word takes the disk before it is ready: what is missing is fetched then", async () => {
    const made = await scene()
    const { b, guest } = made
    const { id } = await move(made, { maxRate: slow })
    await untilMigration(b, id, ({ bytes }) => bytes.data > 0)
    await must(made.a, 'migration', 'switchover', id)
    const taken = await untilDisk(b, 'web01', (disk) => disk.state === 'arriving')
    assert(taken.present.bytes < sizeBytes)
    made.place = b
    guest.start()
    await fetchRest(b, 'web01')
    await endsWhole(made, id)
  })

  it('mode pre-copy is switched over only when all but the last moments has come', async () => {
    const made = await scene()
    const { b } = made
    const { id } = await move(made, { mode: 'pre-copy', maxRate: slow, switchover: 'manual' })
    const refused = refusalOf(await vmstore(b, 'migration', 'switchover', id), 3, 'not-ready')
    assert.match(refused.message, /mode pre-copy/)
    await untilMigration(b, id, isReady)
    await must(b, 'migration', 'switchover', id)
    const done = await untilMigration(b, id, ({ state }) => state === 'done')
    assert.deepEqual([done.mode, done.verified], ['pre-copy', true])
  })

  it('a write there before it is ready waits, and is refused as by a busy source', async () => {
    const made = await scene()
    const { b } = made
    const { id } = await move(made, { maxRate: slow, switchoverWaitMs: 200 })
    const early = await attach(b, 'web01')
    await assert.rejects(
      early.write(0, Buffer.alloc(512)),
      (error: Error & { code?: string }) => error.code === 'EPERM',
    )
    assert.equal((await b.control.showMigration(id)).state, 'pre-copying')
    const { refusedWrites } = await b.control.showMigration(id)
    assert.match(refusedWrites!.why, /copied ahead/)
  })
})
