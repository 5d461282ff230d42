import assert from 'node:assert/strict'
import { Disk } from '../../src/disk/disk.ts'
import { commitTogether } from '../../src/disk/plan.ts'
import { PeerRefusal } from '../../src/link/channel.ts'
import { unknownMigrationCode } from '../../src/migration/codes.ts'
import type { CourseServices } from '../../src/migration/course.ts'
import { DestinationCourse } from '../../src/migration/destination/destination-course.ts'
import type { MigrationRecord, Records } from '../../src/store/records.ts'
import { block, closeDisksAfterEach, isSettled, openDisk, ReadySource } from '../disk/hand.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { migrationRecord, usualTerms } from '../store/samples.ts'
import { FakeClock } from './fake-time.ts'
import { scriptedSite } from './scripted-site.ts'
import { elsewhere, keys } from './site-keys.ts'

describe('the course of an arriving disk', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()

  it('promise 1: a disk that is superseded while a difference cannot be recorded is served to nobody', async () => {
    const { disk, records } = await openDisk(new ReadySource(), { migrationId: 'm-1' })
    await disk.open('guest').cache(0, disk.sizeBytes)
    const there = scriptedSite({
      extents: async (_, run) => [{ ...run, data: true }],
      digests: async (_, runs) => runs.map(() => 'x'.repeat(44)),
      taken: async () => {},
      progress: async () => [],
      blocks: () => assert.fail('nothing is fetched before it is on record'),
    })
    const clock = new FakeClock()
    const facts = { siteId: 'here', ...keys, bootId: 'boot-1', log: () => {}, freeBytes: async () => 2 ** 40 }
    const services: CourseServices = { ...facts, records, clock }
    const record = migrationRecord({ id: 'm-1', role: 'destination', state: 'copying' })
    const course = await DestinationCourse.open(services, record, there, false, async () => disk)
    disk.flush = () => Promise.reject(new Error('the file system is full'))
    course.start()
    while (!course.note) await isSettled(course.settled()) // It reads real files.
    assert.match(course.note, /cannot be recorded that it differed from the source/)
    const superseded = course.supersede(elsewhere(3, 'there'))
    await clock.advance(5000)
    await superseded
    assert.equal(disk.state, 'superseded')
    course.stop()
  })
  it('counts what a guest had fetched by what landed of it', async () => {
    const source = new ReadySource()
    const {
      disk: before,
      services: ofDisk,
      record: diskRecord,
      records,
    } = await openDisk(source, { migrationId: 'm-1' })
    await before.close()
    const there = scriptedSite({ blocks: (_, runs) => source.fetch(runs) })
    const facts = { siteId: 'here', ...keys, bootId: 'boot-1', log: () => {}, freeBytes: async () => 2 ** 40 }
    const services: CourseServices = { ...facts, records, clock: new FakeClock() }
    const record = migrationRecord({ id: 'm-1', role: 'destination', state: 'copying' }, { generation: 2 })
    const course = await DestinationCourse.open(services, record, there, false, (remote) =>
      Disk.open(ofDisk, diskRecord, remote),
    )
    const guest = course.disk.open('guest')
    await guest.write(512, Buffer.alloc(512, 9), false)
    await guest.read(0, Buffer.alloc(2 * block))
    const { data, skippedZero } = course.counters
    assert.deepEqual([data, skippedZero], [2 * block - 512, 0])
    assert.equal(course.missingBytes, 62 * block)
    assert(course.pace.rate > 0)
    course.stop()
    await course.disk.close()
  })

  it('promise 10: is left by force though its source refuses to cancel, and nobody is said to own the disk', async () => {
    const { disk, records } = await openDisk(new ReadySource(), {
      state: 'incoming',
      generation: 1,
      migrationId: 'm-1',
    })
    const refuses = { cancelled: false, message: 'it is copying' }
    const there = scriptedSite({ inquire: () => new Promise(() => {}), cancel: async () => refuses })
    const facts = { siteId: 'here', ...keys, bootId: 'boot-1', log: () => {}, freeBytes: async () => 2 ** 40 }
    const services: CourseServices = { ...facts, records, clock: new FakeClock() }
    const record = migrationRecord({ id: 'm-1', role: 'destination', state: 'ready' })
    const course = await DestinationCourse.open(services, record, there, false, async () => disk)
    course.start()
    const never = new AbortController().signal
    await assert.rejects(course.cancel(false, never), { code: 'too-late', next: /--force leaves here all the same/ })
    assert.equal(disk.state, 'incoming')
    await course.cancel(true, never)
    assert.deepEqual([disk.state, course.record.state, course.moved(disk).owner], ['gone', 'cancelled', 'unknown'])
    assert.match(course.note!, /left by force, though the source refused to cancel: it is copying/)
    course.stop()
    await course.settled()
  })

  it('of a copy ahead is left when its source knows nothing of it any more, for it was cancelled, and the word of that was lost', async () => {
    const facts = { state: 'incoming', generation: 1, migrationId: 'm-1' }
    const { disk, records } = await openDisk(new ReadySource(), facts)
    let isCancelled = false
    const known = { writersAreGone: false, sessions: 0, boot: null }
    const there = scriptedSite({
      inquire: async () => ({ ...known, state: isCancelled ? 'cancelled' : 'ready' }),
      track: async () => {
        isCancelled = true
        throw new PeerRefusal(unknownMigrationCode, 'there is no migration m-1 there')
      },
      extents: async (_, run) => [{ ...run, data: true }],
    })
    const clock = new FakeClock()
    const services: CourseServices = {
      ...{ siteId: 'here', ...keys, bootId: 'boot-1', log: () => {}, freeBytes: async () => 2 ** 40 },
      ...{ records, clock },
    }
    const terms = { ...usualTerms, mode: 'hybrid' } as const
    const record = migrationRecord({ id: 'm-1', role: 'destination', state: 'ready', terms })
    const course = await DestinationCourse.open(services, record, there, false, async () => disk)
    course.start()
    await course.settled()
    assert.deepEqual([disk.state, course.record.state], ['gone', 'cancelled'])
  })

  it('promise 8: ends though its source is gone for good, when that is proven', async () => {
    const { disk, records } = await openDisk(new ReadySource(), { migrationId: 'm-1' })
    await disk.open('guest').cache(0, disk.sizeBytes)
    const there = scriptedSite({
      complete: async () => ({ answer: 'gone', proof: { foundIn: 's3://moves/m-1/decision' } }),
    })
    const steps: string[] = []
    const lines: string[] = []
    const facts = { siteId: 'here', ...keys, bootId: 'boot-1', freeBytes: async () => 2 ** 40 }
    const log = (_: string, __: object, message: string) => void lines.push(message)
    const record = migrationRecord({ id: 'm-1', role: 'destination', state: 'finishing' })
    const course = await DestinationCourse.open(
      { ...facts, log, records, clock: new FakeClock() },
      record,
      there,
      false,
      async () => disk,
    )
    await commitTogether([await disk.arriving.finish()])
    course.listen((event) => event.kind === 'step' && steps.push(event.message))
    course.start()
    await course.settled()
    assert.deepEqual(
      [course.record.state, course.moved(course.disk).owner, disk.record.migrationId],
      ['done', 'here', null],
    )
    assert.match(steps.at(-1) ?? '', /the source is gone, and .* proven by s3:\/\/moves\/m-1\/decision/)
    assert.deepEqual(lines, steps)
  })

  it('puts nothing on record any more of a move that has ended, whatever was still to be told of it', async () => {
    const { disk, records } = await openDisk(new ReadySource(), { migrationId: 'm-1' })
    await disk.open('guest').cache(0, disk.sizeBytes)
    const kept: MigrationRecord[] = []
    const watched: Records = {
      load: () => records.load(),
      close: () => records.close(),
      commit: async (changes) => {
        await records.commit(changes)
        for (const change of changes) if ('put' in change && change.put === 'migration') kept.push(change.record)
      },
    }
    const facts = { siteId: 'here', ...keys, bootId: 'boot-1', log: () => {}, freeBytes: async () => 2 ** 40 }
    const services: CourseServices = { ...facts, records: watched, clock: new FakeClock() }
    const record = migrationRecord({ id: 'm-1', role: 'destination', state: 'finishing' })
    const course = await DestinationCourse.open(services, record, scriptedSite({}), false, async () => disk)
    await commitTogether([await disk.arriving.finish()])
    const ending = course.cancel(true, new AbortController().signal)
    const late = (course as unknown as { update(changes: object): Promise<void> }).update({ mark: 8 })
    await Promise.all([ending, late])
    assert.equal(course.record.state, 'done')
    assert.deepEqual([course.record.mark, kept.filter(({ mark }) => mark === 8)], [record.mark, []])
  })
})
