// The source of a move that is copied before switchover, over real files: what its destination is given out, and what it is
// told that it lacks when the disks pass.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Disk } from '../../src/disk/disk.ts'
import type { AskedDisk, Copied, DestinationDesk, DiskAt } from '../../src/migration/counterpart.ts'
import { signMark } from '../../src/migration/signed-words.ts'
import { SourceCourse } from '../../src/migration/source/source-course.ts'
import { block, closeDisksAfterEach, type HandDisk, isSettled, openDisk, ReadySource } from '../disk/hand.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { migrationRecord, movedDisk, usualTerms } from '../store/samples.ts'
import { FakeClock } from './fake-time.ts'
import { scriptedSite } from './scripted-site.ts'
import { elsewhere, keys, theirKey } from './site-keys.ts'
import { ids, Ledger } from './two-disks.ts'

const never = new AbortController().signal
const blocks = 64
const whole = { offset: 0, length: blocks * block }
const asOwned = (name: keyof typeof ids): DiskAt => ({ disk: ids[name], generation: 1 })
const asGranted = (name: keyof typeof ids): DiskAt => ({ disk: ids[name], generation: 2 })

describe('the source of disks that are copied before switchover', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()
  let records: Ledger
  let clock: FakeClock
  let [one, two]: HandDisk<ReadySource>[] = []
  let [web01, web02]: Disk[] = []
  let course: SourceCourse

  beforeEach(async () => {
    ;[clock, records] = [new FakeClock(), new Ledger()]
    const owned = (name: 'web01' | 'web02') => {
      const facts = { id: ids[name], name, state: 'owned', generation: 1, owner: 'here', migrationId: 'm-1' }
      return openDisk(new ReadySource(), facts, undefined, undefined, { records, clock })
    }
    ;[one, two] = [await owned('web01'), await owned('web02')]
    ;[web01, web02] = [one.disk, two.disk]
    const disks = [web01, web02].map(({ id, name, sizeBytes }) => movedDisk({ id, name, sizeBytes, owner: 'here' }))
    const terms = { ...usualTerms, mode: 'hybrid' }
    const peerId = theirKey.fingerprint
    const record = migrationRecord({ id: 'm-1', role: 'source', peerId, disks, terms })
    const facts = { siteId: 'here', ...keys, bootId: 'boot-1', log: () => {}, freeBytes: async () => 2 ** 40 }
    const told: Partial<DestinationDesk> = { cancelled: async () => {}, writersGone: async () => {} }
    const there = { ...scriptedSite({}), destination: () => told as DestinationDesk }
    course = new SourceCourse({ ...facts, records, clock }, [web01, web02], record, there)
  })

  const mapOf = (disk: Disk) => join(disk.record.folder, 'dirty.map')

  async function write(disk: Disk, number: number): Promise<void> {
    const session = disk.open('guest')
    await session.write(number * block, Buffer.alloc(block, 9), false)
    await session.flush()
    session.close('disconnected')
  }

  /** All of a disk is copied, and confirmed. */
  async function copied(name: keyof typeof ids): Promise<Copied> {
    const { epoch } = await course.desk.track(asOwned(name), null, never)
    const asked = { ...asOwned(name), epoch, run: whole, most: blocks, hot: true }
    assert.deepEqual((await course.desk.collect({ ...asked, round: 1, confirmed: 0 }, never)).spans, [
      { first: 0, end: blocks },
    ])
    await course.desk.collect({ ...asked, round: 2, confirmed: 1 }, never)
    return { epoch, confirmed: 2, round: 2 }
  }

  const had = (name: keyof typeof ids, copied: Copied): AskedDisk => ({
    ...asGranted(name),
    copied: { ...copied, blocks },
  })
  const acquire = (disks: readonly AskedDisk[]) =>
    course.desk.acquire({ disks, reason: 'guest-write', force: false }, never)

  /** Of each disk that is granted: the blocks that its destination is told that it lacks; undefined: all. */
  async function lacking(disks: readonly AskedDisk[]): Promise<(number[] | undefined)[]> {
    const answer = await acquire(disks)
    assert(answer.answer === 'granted')
    return answer.disks.map(({ final }) => {
      const runs = final && [...final.dirty.runs(0, blocks, true)]
      return runs?.flatMap(({ first, end }) => Array.from({ length: end - first }, (_, index) => first + index))
    })
  }

  it('names of each disk what was written since it was copied, and says the same when it is asked again', async () => {
    const disks = [had('web01', await copied('web01')), had('web02', await copied('web02'))]
    await write(web01!, 3)
    await write(web02!, 7)
    await write(web02!, 8)
    assert.deepEqual(await lacking(disks), [[3], [7, 8]])
    assert.deepEqual(await lacking(disks), [[3], [7, 8]])
  })

  it('of one of which nothing was copied, or something else, all is lacking', async () => {
    const disks: AskedDisk[] = [had('web01', await copied('web01')), asGranted('web02')]
    assert.deepEqual(await lacking(disks), [[], undefined])
    const other = { ...disks[0]!.copied!, epoch: ids.web01 }
    assert.deepEqual(await lacking([{ ...asGranted('web01'), copied: other }, asGranted('web02')]), [
      undefined,
      undefined,
    ])
    const longer = { ...disks[0]!.copied!, blocks: blocks + 1 }
    assert.deepEqual(await lacking([{ ...asGranted('web01'), copied: longer }, asGranted('web02')]), [
      undefined,
      undefined,
    ])
  })

  it('lacking is also what was given out and not confirmed', async () => {
    const copy = await copied('web01')
    await write(web01!, 3)
    const asked = { ...asOwned('web01'), epoch: copy.epoch, run: whole, most: blocks, hot: true }
    assert.deepEqual(await course.desk.collect({ ...asked, round: 3, confirmed: 2 }, never), {
      spans: [{ first: 3, end: 4 }],
      left: 0,
    })
    assert.deepEqual(await lacking([had('web01', { ...copy, round: 3 }), asGranted('web02')]), [[3], undefined])
  })

  it('not lacking is what the destination says that it has when it asks for the disks', async () => {
    const copy = await copied('web01')
    await write(web01!, 3)
    const asked = { ...asOwned('web01'), epoch: copy.epoch, run: whole, most: blocks, hot: true }
    await course.desk.collect({ ...asked, round: 3, confirmed: 2 }, never)
    await write(web01!, 5)
    const all = { ...copy, confirmed: 3, round: 3 }
    assert.deepEqual(await lacking([had('web01', all), asGranted('web02')]), [[5], undefined])
  })

  it('promise 2: a map that is not durable does not keep the disks from passing, and counts for nothing', async () => {
    const disks = [had('web01', await copied('web01')), had('web02', await copied('web02'))]
    two!.files.fail('syncPages', new Error('EIO'))
    assert.deepEqual(await lacking(disks), [[], undefined])
    assert.deepEqual([web01!.record.dirtyEpoch, web02!.record.dirtyEpoch], [disks[0]!.copied!.epoch, null])
  })

  it('promise 2: makes the map durable with the disk frozen, before it is on record that it is given up', async () => {
    const disks: AskedDisk[] = [had('web01', await copied('web01')), asGranted('web02')]
    one!.files.hold('syncPages')
    let reached = one!.files.waiting('syncPages')
    const grant = acquire(disks)
    await reached // Before the freeze.
    assert(!web01!.gate.frozen)
    reached = one!.files.waiting('syncPages')
    one!.files.release('syncPages')
    one!.files.hold('syncPages')
    await reached
    assert(web01!.gate.frozen)
    assert.equal(await isSettled(grant), false)
    assert.deepEqual([web01!.state, web02!.state], ['owned', 'owned'])
    one!.files.release('syncPages')
    assert.equal((await grant).answer, 'granted')
  })

  it('a disk that stays, because a guest came while it froze, is tracked on', async () => {
    const copy = await copied('web01')
    const disks = [had('web01', copy), asGranted('web02')]
    const { files } = two!
    files.hold('sync')
    let reached = files.waiting('sync')
    const grant = acquire(disks)
    await reached
    reached = files.waiting('sync')
    files.release('sync')
    files.hold('sync')
    await reached // Of the sync after the freeze.
    await assert.rejects(course.desk.track(asOwned('web01'), copy, never), { code: 'starting' })
    const session = web01!.open('guest')
    const writing = Promise.resolve(session.write(5 * block, Buffer.alloc(block, 1), false))
    files.release('sync')
    assert.equal((await grant).answer, 'busy')
    await writing
    await session.flush()
    session.close('disconnected')
    assert.deepEqual(await lacking(disks), [[5], undefined])
  })

  it('lets be read under the old generation what is given out, and under the new one what is lacking', async () => {
    await write(web01!, 3)
    const copy = await copied('web01')
    const run = { offset: 3 * block, length: block }
    const read = async (at: DiskAt) => {
      for await (const piece of course.desk.blocks(at, [run], { urgency: 'background', signal: never }))
        return piece.bytes?.[0]
      return undefined
    }
    assert.equal(await read(asOwned('web01')), 9)
    assert.equal((await course.desk.digests(asOwned('web01'), [run], never)).length, 1)
    assert((await course.desk.extents(asOwned('web01'), whole, never)).some(({ data }) => data))
    assert.equal(course.countersOf(web01!).sent, block, 'what is copied before counts as sent')
    await lacking([had('web01', copy), asGranted('web02')])
    assert.equal(await read(asGranted('web01')), 9)
    assert.equal(course.countersOf(web01!).resent, block)
    for (const asked of [read(asOwned('web01')), course.desk.track(asOwned('web01'), copy, never)])
      await assert.rejects(asked, { code: 'no-right' })
  })

  it('promise 10: nothing is tracked for a move of which the disk is not, or under another generation', async () => {
    const other = { disk: ids.web01.replaceAll('3', '6'), generation: 1 }
    for (const asked of [other, asGranted('web01'), { ...asOwned('web01'), generation: 3 }])
      await assert.rejects(course.desk.track(asked, null, never), { code: 'no-right' })
    assert(!existsSync(mapOf(web01!)))
    const { epoch } = await course.desk.track(asOwned('web01'), null, never)
    const collection = { ...asOwned('web02'), epoch, run: whole, round: 1, confirmed: 0, most: 1, hot: true }
    await assert.rejects(course.desk.collect(collection, never), { code: 'epoch-over' })
    const beyond = { ...asOwned('web01'), run: { offset: 0, length: whole.length + block } }
    await assert.rejects(course.desk.collect({ ...collection, ...beyond }, never), { code: 'bad-range' })
  })

  it('promise 6: after a failed sync nothing is given out, and what was given out before is not believed', async () => {
    const copy = await copied('web01')
    one!.files.fail('sync', new Error('EIO'))
    const session = web01!.open('guest')
    await session.write(0, Buffer.alloc(block, 1), false)
    await assert.rejects(async () => session.flush())
    session.close('disconnected')
    for (let time = 0; time < 2; time++)
      await assert.rejects(course.desk.track(asOwned('web01'), copy, never), { code: 'sync-failed' })
    one!.files.fail('sync', undefined)
    await web01!.acceptFailedSync(never)
    assert.equal((await course.desk.track(asOwned('web01'), copy, never)).isSame, false)
  })

  for (const [what, end] of [
    ['cancelled', () => course.cancel()],
    ['ended because one of them was superseded', () => course.supersede(elsewhere(9, 'elsewhere'), web02)],
  ] as const)
    it(`a move that is ${what} leaves no map of any disk`, async () => {
      await copied('web01')
      await copied('web02')
      await end()
      assert.deepEqual([existsSync(mapOf(web01!)), existsSync(mapOf(web02!))], [false, false])
      await write(web01!, 3)
      await assert.rejects(course.desk.track(asOwned('web01'), null, never), { code: 'no-right' })
    })

  for (const [what, end] of [
    [
      'that its destination serves',
      () => {
        const said = { mark: 1, run: 'run' }
        const disks = [asGranted('web01'), asGranted('web02')]
        return course.desk.taken({ disks, ...said, ...signMark(theirKey, course.record, said) }, never)
      },
    ],
    ['that they were taken back', () => course.reclaim(web01)],
  ] as const)
    it(`keeps the maps of disks that were given up until it is on record ${what}`, async () => {
      await lacking([had('web01', await copied('web01')), had('web02', await copied('web02'))])
      assert.deepEqual([existsSync(mapOf(web01!)), existsSync(mapOf(web02!))], [true, true])
      await end()
      assert.deepEqual([existsSync(mapOf(web01!)), existsSync(mapOf(web02!))], [false, false])
      assert.deepEqual([web01!.record.dirtyEpoch, web02!.record.dirtyEpoch], [null, null])
    })
})
