import assert from 'node:assert/strict'
import type { PeerChannel } from '../../src/link/channel.ts'
import type { CourseServices } from '../../src/migration/course.ts'
import { DestinationCourse } from '../../src/migration/destination/destination-course.ts'
import { closeDisksAfterEach, isSettled, openDisk, ReadySource } from '../disk/hand.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { migrationRecord } from '../store/samples.ts'
import { FakeClock } from './fake-time.ts'

async function* chunks(...all: Uint8Array[]): AsyncGenerator<Uint8Array, undefined> {
  yield* all
}

describe('the course of an arriving disk', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()

  it('promise 1: a disk that is superseded while a difference cannot be recorded is served to nobody', async () => {
    const { disk, records } = await openDisk(new ReadySource(), { migrationId: 'm-1' })
    await disk.open('guest').cache(0, disk.sizeBytes)
    const answers: Record<string, (params: { offset: number; length: number; runs: unknown[] }) => object> = {
      extents: ({ length }) => ({ extents: [{ length, data: true }] }),
    }
    const channel: PeerChannel = {
      peerId: 'peer',
      call: async (method, params) => answers[method]?.(params as never) ?? {},
      callForBody: async (_method, _params, { maximumBytes }) => ({
        answer: { digests: maximumBytes / 32 },
        body: chunks(Buffer.alloc(maximumBytes, 'x')),
      }),
      fetch: () => assert.fail('nothing is fetched before it is on record'),
    }
    const clock = new FakeClock()
    const facts = { siteId: 'here', bootId: 'boot-1', log: () => {}, freeBytes: async () => 2 ** 40 }
    const services: CourseServices = { ...facts, records, clock }
    const record = migrationRecord({ id: 'm-1', role: 'destination', state: 'copying', generation: 2 })
    const course = await DestinationCourse.open(services, record, channel, false, async () => disk)
    disk.flush = () => Promise.reject(new Error('the file system is full'))
    course.start()
    while (!course.note) await isSettled(course.settled()) // It reads real files.
    assert.match(course.note, /cannot be recorded that it differed from the source/)
    const superseded = course.supersede({ generation: 3, owner: 'there' })
    await clock.advance(5000)
    await superseded
    assert.equal(disk.state, 'superseded')
    course.stop()
  })
})
