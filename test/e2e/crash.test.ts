// Sites that are killed in the middle of a move, and started again with the same command.

import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { DiskView, MigrationView } from '../../src/control/types.ts'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { servesNobody } from '../crash/moves.ts'
import { type Random, seededRandom } from '../random.ts'
import { Guest, makeGuestImage } from './guest.ts'
import { sitesWithDisk } from './scenes.ts'
import {
  afterwards,
  attach,
  begin,
  createDisk,
  endSitesAfterEach,
  fetchRest,
  folder,
  must,
  Site,
  twoSites,
  until,
  untilMigration,
} from './sites.ts'

const mebibyte = 2 ** 20
const block = 4096
const sizeBytes = 48 * mebibyte
/** The last mebibyte, a hole, is left to the tests. */
const guestBytes = sizeBytes - mebibyte
/** The copy, which goes from the beginning, comes to it last, and no guest writes it. */
const lastBlock = sizeBytes - block
/** 36 MiB of data take nine seconds and more, if nobody reads them. */
const maxRate = 4 * mebibyte

/** A run of random rounds begins no further round after this. */
const boundMs = 8_000

const seedOfRun = () => Number(process.env['SEED'] ?? Date.now() % 2 ** 32)

describe('sites that are killed', () => {
  endSitesAfterEach()

  it('promise 6: a destination killed in the middle of the copy carries on by itself, and nothing acknowledged is lost', async () => {
    const { a, b, guest, id, seed } = await movingDisk()
    await copied(b, id, 0.1)
    const before = await b.control.showDisk('web01')
    await b.kill()
    await b.restart()
    const after: DiskView = await b.control.showDisk('web01')
    assert.deepEqual([after.state, after.generation, after.owner], ['arriving', 2, before.owner])
    assert(after.present.blocks >= before.present.blocks, 'promise 8: what was here is here')
    await copied(b, id, 0.2)
    await b.kill()
    await b.restart()
    await finished(a, b, id)
    await until('the guest has written often', () => {
      guest.check()
      return guest.counts.writes > 100 || undefined
    })
    await guest.stop()
    assert(guest.counts.broken > 0, JSON.stringify(guest.counts))
    assert.equal(await a.stop(), 0)
    await guest.verify(await attach(b, 'web01'))
    assert.ok(seed)
  })

  it('a source killed in the middle of the copy and started again is found again: waiting reads and the copy go on', async () => {
    const { a, b, guest, id } = await movingDisk()
    await copied(b, id, 0.1)
    await a.kill()
    const client = await attach(b, 'web01')
    let isRead = false
    const read = client.read(lastBlock, block).then((bytes) => {
      isRead = true
      return bytes
    })
    read.catch(() => {})
    // Promise 7: no write waits for the source.
    for (let round = 0; round < 20; round++) await client.write(guestBytes + round * 3 * 512, Buffer.alloc(512, round))
    assert(!isRead, 'a read of what only the source has waits, and does not fail')
    assert.equal((await b.control.showDisk('web01')).state, 'arriving')
    await a.restart()
    const shown: DiskView = await a.control.showDisk('web01')
    assert.deepEqual([shown.state, shown.generation], ['departed', 2])
    await read
    guest.check()
    await finished(a, b, id)
    await guest.stop()
    await guest.verify(client)
  })

  it('promise 2: both sites killed in the middle of the copy agree on the owner when they are back, and finish', async () => {
    const { a, b, guest, id } = await movingDisk()
    await copied(b, id, 0.1)
    await Promise.all([a.kill(), b.kill()])
    await Promise.all([a.restart(), b.restart()])
    const [atA, atB] = await Promise.all([a.control.showDisk('web01'), b.control.showDisk('web01')])
    assert.deepEqual([atA.state, atA.generation, atA.owner], ['departed', 2, atB.owner])
    assert.deepEqual([atB.state, atB.generation, atB.ownerName], ['arriving', 2, 'this site'])
    await finished(a, b, id)
    await guest.stop()
    await guest.verify(await attach(b, 'web01'))
  })

  it('promise 6: sites killed at random moments of the copy lose nothing acknowledged', async () => {
    const seed = seedOfRun()
    const random = seededRandom(seed)
    const { a, b, guest, id } = await movingDisk(seed)
    try {
      for (let kills = 4 + random.integer(3); kills > 0; kills--) {
        await pause(random.integer(1000)) // A moment from the seed, not a wait for anything.
        const victims = random.pick([[a], [b], [b], [a, b]])
        await Promise.all(victims.map((site) => site.kill()))
        await pause(random.integer(200))
        await Promise.all(victims.map((site) => site.restart()))
      }
      await finished(a, b, id)
      await guest.stop()
      await a.stop()
      await guest.verify(await attach(b, 'web01'))
    } catch (error) {
      throw new Error(`SEED=${seed}: ${(error as Error).message}`, { cause: error })
    }
  })

  it('a daemon killed while it makes a disk from an image leaves nothing behind when it is back', async () => {
    const image = join(folder(), 'web01.img')
    await makeGuestImage(image, 256 * mebibyte)
    const site = await Site.start('osaka')
    const events = site.control.createDisk({ name: 'web01', from: image })
    assert.equal((await events.next()).value?.type, 'progress')
    await site.kill()
    await assert.rejects(async () => {
      while (!(await events.next()).done); // What had been said before.
    })
    await site.restart()
    assert.deepEqual(await site.control.listDisks(), [])
    assert.deepEqual(await readdir(join(site.root, 'disks')), [], 'no bytes without a disk')
    await createDisk(site, 'web01', mebibyte)
  })

  it('promise 1: sites killed at random moments of a whole move never both serve, and the disk ends at one of them', async () => {
    const seed = seedOfRun()
    const random = seededRandom(seed)
    const { a, b } = await sitesWithDisk(8 * mebibyte)
    let [from, to] = [a, b]
    const outcomes = { moved: 0, stayed: 0 }
    const end = performance.now() + boundMs
    for (let round = 1; round <= 12 && (round <= 4 || outcomes.moved === 0 || performance.now() < end); round++) {
      const what = `SEED=${seed} round ${round}`
      try {
        const version = await writeAll(from, round)
        const { generation } = await from.control.showDisk('web01')
        const owner = await moveUnderFire(from, to, random)
        const shown = await owner.control.showDisk('web01')
        assert.equal(shown.generation, owner === to ? generation + 1 : generation)
        await readAllOf(owner, version)
        await servesNobody(owner === to ? from : to)
        outcomes[owner === to ? 'moved' : 'stayed']++
        if (process.env['TRACE']) console.log(what, shown.state, owner.name, Math.round(performance.now()))
        if (owner === to) [from, to] = [to, from]
      } catch (error) {
        throw new Error(`${what}: ${(error as Error).message}`, { cause: error })
      }
    }
    assert(outcomes.moved > 0, `SEED=${seed}: ${JSON.stringify(outcomes)}`)
  })
})

/** A disk with a guest at B, on its way from A to B. */
async function movingDisk(seed = seedOfRun()): Promise<{ a: Site; b: Site; guest: Guest; id: string; seed: number }> {
  const image = join(folder(), 'web01.img')
  await makeGuestImage(image, sizeBytes)
  const { a, b } = await twoSites()
  await must(a, 'disk', 'create', 'web01', '--from', image)
  const { id } = await begin(a, b, 'web01', 'now', { maxRate })
  await untilMigration(b, id, ({ state }) => state === 'copying')
  const guest = new Guest({ seed, sizeBytes: guestBytes, connect: () => NbdClient.connect(b.uri('web01')) })
  guest.start()
  afterwards(() => guest.stop().catch(() => {}))
  return { a, b, guest, id, seed }
}

async function copied(b: Site, id: string, part: number): Promise<MigrationView> {
  const view = await untilMigration(b, id, ({ bytes }) => bytes.missing < (1 - part) * sizeBytes)
  assert.equal(view.state, 'copying', 'the test is in the middle of the copy')
  return view
}

async function finished(a: Site, b: Site, id: string): Promise<void> {
  await fetchRest(b, 'web01')
  await untilMigration(b, id, ({ state }) => state === 'done')
  await untilMigration(a, id, ({ state }) => state === 'done')
  const [atA, atB] = await Promise.all([a.control.showDisk('web01'), b.control.showDisk('web01')])
  assert.deepEqual([atA.state, atA.generation, atA.owner], ['released', 2, atB.owner])
  assert.deepEqual([atB.state, atB.generation, atB.ownerName], ['owned', 2, 'this site'])
}

/** Starts a move and kills who the seed says when it says. Resolves to the site that owns the disk in the end. */
async function moveUnderFire(from: Site, to: Site, random: Random): Promise<Site> {
  const switchover = random.pick(['now', 'auto'] as const)
  const asked = from.control.migrate({
    disk: 'web01',
    to: to.name,
    mode: 'post-copy',
    switchover,
    switchoverWaitMs: 30_000,
    source: random.pick(['keep', 'delete'] as const),
  })
  const started = asked.then(
    (view) => view,
    () => undefined,
  )
  const written = switchover === 'auto' ? started.then(() => firstWrite(to)) : undefined
  await momentOf(from, to, random)
  const victims = random.pick([[from], [to], [from, to]])
  await Promise.all(victims.map((site) => site.kill()))
  await pause(random.integer(100))
  await Promise.all(victims.map((site) => site.restart()))
  await started
  await written
  return settled(from, to)
}

/** A moment of a move: soon after it was asked for, when the destination has the disk, when the source has given it up. */
async function momentOf(from: Site, to: Site, random: Random): Promise<void> {
  const milestone = random.integer(3)
  const waitMs = random.integer(milestone === 0 ? 60 : 25)
  const [site, states] =
    milestone === 1 ? [to, ['incoming', 'arriving', 'owned']] : [from, ['departed', 'released', 'superseded']]
  const reached = async () => {
    const disk = await diskAt(site).catch(() => undefined)
    return disk && states.includes(disk.state) ? true : undefined
  }
  // It does not come when the move was refused, or waits for a write that was.
  if (milestone > 0) await until('the moment comes', reached, 10_000).catch(() => {})
  await pause(waitMs)
}

/** Writes what is there already, until the site answers or breaks off. */
async function firstWrite(to: Site): Promise<void> {
  try {
    const client = await NbdClient.connect(to.uri('web01'))
    afterwards(() => client.destroy())
    await client.write(0, await client.read(0, block))
    await client.disconnect()
  } catch {
    // The site was killed, or the migration was cancelled: who owns is seen later.
  }
}

/** Until one site owns all of the disk and both say so. An `auto` migration that survived is switched over by a write. */
async function settled(from: Site, to: Site): Promise<Site> {
  let sight = ''
  const look = async () => {
    const [here, there] = await Promise.all([diskAt(from), diskAt(to)])
    sight = JSON.stringify({ here, there })
    const serving = [here, there].filter((disk) => disk && ['owned', 'arriving'].includes(disk.state))
    assert(serving.length <= 1, `promise 1: both serve: ${sight}`)
    if (there?.state === 'incoming' && there.migration) await firstWrite(to)
    if (here?.state === 'owned' && here.migration === null && there?.state !== 'incoming') return from
    if (there?.state === 'owned' && there.migration === null && here?.state === 'released') return to
    return undefined
  }
  return until('one site owns the disk', look).catch((error: Error) => {
    throw new Error(`${error.message}: ${sight}`, { cause: error })
  })
}

async function diskAt(site: Site): Promise<DiskView | undefined> {
  return site.control.showDisk('web01').catch((error: { code?: string }) => {
    if (error.code === 'disk-unknown') return undefined
    throw error
  })
}

const slots = [0, 1, 77, 1024, 2047]

async function writeAll(owner: Site, version: number): Promise<number> {
  const client = await NbdClient.connect(owner.uri('web01'))
  for (const slot of slots) await client.write(slot * block, Buffer.alloc(block, version))
  await client.flush()
  await client.disconnect()
  return version
}

async function readAllOf(owner: Site, version: number): Promise<void> {
  const client = await NbdClient.connect(owner.uri('web01'))
  for (const slot of slots) {
    const bytes = await client.read(slot * block, block)
    assert(bytes.equals(Buffer.alloc(block, version)), `slot ${slot} has ${bytes[0]}, not ${version}`)
  }
  await client.disconnect()
}
