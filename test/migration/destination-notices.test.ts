import assert from 'node:assert/strict'
import { PeerRefusal } from '../../src/link/channel.ts'
import type { Course } from '../../src/migration/course.ts'
import type { ComingDisk } from '../../src/migration/destination/coming-disk.ts'
import { DestinationNotices } from '../../src/migration/destination/destination-notices.ts'
import { signMark } from '../../src/migration/signed-words.ts'
import { isSettled } from '../disk/hand.ts'
import { migrationRecord, movedDisk } from '../store/samples.ts'
import { FakeClock } from './fake-time.ts'
import { ourKey } from './site-keys.ts'

const never = new AbortController().signal

describe('what a destination tells its source unasked', () => {
  /** Notices of which the next `taken` fails as `failure` says. */
  function told(coming: readonly ComingDisk[] = []): Told {
    const clock = new FakeClock()
    const made: Told = {
      clock,
      notes: [],
      recordFails: false,
      reportFails: false,
      failure: undefined,
      notices: undefined!,
    }
    made.notices = new DestinationNotices({
      course: {
        record: migrationRecord({ role: 'destination' }),
        disk: movedDisk(),
        moved: () => movedDisk(),
        figures: () => ({ missingBytes: 0, unreadable: [] }),
        ended: false,
      } as unknown as Course,
      coming,
      clock,
      stopping: never,
      sign: (said) => signMark(ourKey, migrationRecord(), said),
      source: {
        taken: async () => {
          if (made.failure) throw made.failure
        },
        progress: async () => [],
        paused: async () => {},
      },
      update: async () => {},
      isQuiet: () => false,
      mark: async () => {
        if (made.recordFails) throw new Error('the file system is full')
      },
      note: (sentence) => void made.notes.push(sentence),
      reported: () => {
        if (made.reportFails) throw new Error('an answer that nobody can read')
      },
      progressed: () => {},
    })
    return made
  }

  interface Told {
    readonly clock: FakeClock
    readonly notes: (string | null)[]
    notices: DestinationNotices
    recordFails: boolean
    reportFails: boolean
    failure: Error | undefined
  }

  it('goes on reporting when a disk cannot be looked at, and has no picture of it then', async () => {
    const figures = { missingBytes: 0, unreadable: [], picture: 'h' as string | null }
    const disk = {
      get arriving(): never {
        throw new Error('the file is shorter than it was')
      },
    }
    const made = told([{ id: 'web01', isInMove: true, disk, figures, tally: { now: {} } } as unknown as ComingDisk])
    const ended = new AbortController()
    const reporting = made.notices.report(ended.signal)
    await made.clock.advance(2000)
    assert.equal(await isSettled(reporting), false)
    assert.equal(figures.picture, null)
    ended.abort()
    await made.clock.advance(2000)
    await reporting
  })

  it('promise 11: goes on reporting when the source answers what nobody can read', async () => {
    const made = told()
    made.reportFails = true
    const ended = new AbortController()
    const reporting = made.notices.report(ended.signal)
    await made.clock.advance(2000)
    assert.equal(await isSettled(reporting), false)
    ended.abort()
    await made.clock.advance(2000)
    await reporting
  })

  it('says to operators why the source has not heard yet that this site serves, once nothing else is waited for', async () => {
    const made = told()
    made.recordFails = true
    const ended = new AbortController()
    const saying = made.notices.sayTaken(ended.signal).catch(() => {})
    await isSettled(saying)
    assert.deepEqual(made.notes, [], 'the copy does not wait for it')
    const heard = made.notices.heard(never)
    assert.equal(await isSettled(heard), false)
    assert.match(String(made.notes.at(-1)), /the source is not told yet that this site serves: the file system is full/)
    made.recordFails = false
    made.failure = new PeerRefusal('starting', 'it is starting')
    await made.clock.advance(5000)
    assert.match(String(made.notes.at(-1)), /it is starting/)
    made.failure = undefined
    await made.clock.advance(5000)
    await heard
    assert.equal(made.notes.at(-1), null)
    ended.abort()
    await saying
  })

  it('has nothing to say of a mark that fails after the source has heard', async () => {
    const made = told()
    const ended = new AbortController()
    const saying = made.notices.sayTaken(ended.signal).catch(() => {})
    await isSettled(saying)
    made.recordFails = true
    await made.clock.advance(10_000)
    await made.notices.heard(never)
    assert.deepEqual(made.notes, [null])
    ended.abort()
    await saying
  })
})
