import assert from 'node:assert/strict'
import { LinkError } from '../../src/link/channel.ts'
import type { AcquireAnswer, AcquireReason } from '../../src/migration/counterpart.ts'
import type { ComingDisk } from '../../src/migration/destination/coming-disk.ts'
import { Grants } from '../../src/migration/destination/grants.ts'
import type { DestinationHost } from '../../src/migration/destination/host.ts'
import { Switchover } from '../../src/migration/destination/switchover.ts'
import { nobodyWaits } from '../../src/migration/held-writes.ts'
import { isSettled, settled } from '../disk/hand.ts'
import { FakeClock } from './fake-time.ts'
import { givenHere, keys, theirs } from './site-keys.ts'

const busy: AcquireAnswer = {
  answer: 'busy',
  why: 'the session of 10.0.0.7 has written and has not flushed since',
  isAtWork: false,
}
const grant = {
  answer: 'granted' as const,
  disks: [
    {
      disk: '33333333-3333-4333-8333-333333333333',
      generation: 2,
      given: givenHere(theirs('33333333-3333-4333-8333-333333333333'), 'm-1'),
      powerLoss: null,
    },
  ],
  boot: null,
  cutOff: [],
}
const lost = () => Promise.reject(new LinkError('lost', 'the lane broke'))
const waitMs = 10_000

const moved = { disk: '33333333-3333-4333-8333-333333333333', generation: 2 }

class Asking {
  readonly clock = new FakeClock()
  readonly stop = new AbortController()
  readonly reasons: AcquireReason[] = []
  readonly forced: boolean[] = []
  readonly notes: (string | null)[] = []
  readonly refusals: string[] = []
  readonly passed = new AbortController()
  /** `manual`: only on the operator's word. */
  readonly terms: { switchover: string; switchoverWaitMs: number } = { switchover: 'auto', switchoverWaitMs: waitMs }
  /** What is copied ahead has come so far. */
  isArmed = true
  readonly armed = Promise.withResolvers<void>()
  /** `--mode pre-copy`: what is left is looked at again then. */
  lastMoments: Promise<void> | undefined
  grants = 0
  isWanted = true
  departed = false
  inquiries = 0
  /** What the source says now. */
  answer: () => Promise<AcquireAnswer> = async () => busy
  /** The grant is on record here when this is over. */
  grantWork: () => Promise<void> = async () => {}
  readonly switchover = new Switchover({
    host: this.#host(),
    coming: [this.#coming()],
    grants: new Grants(this.#host()),
    guests: { hold: (waiting) => waiting(), now: nobodyWaits },
    passed: this.passed.signal,
    isLeaving: () => false,
    armed: this.armed.promise,
    isArmed: () => this.isArmed,
    copied: () => ({}),
    lastMoments: () => this.lastMoments,
    acquire: ({ reason, force }) => {
      this.reasons.push(reason)
      this.forced.push(force)
      return this.answer()
    },
    hasDeparted: async () => {
      this.inquiries++
      return this.departed
    },
    refused: async (code) => void this.refusals.push(code),
    switched: () => this.passed.abort(),
  })

  #coming(): ComingDisk {
    const isIncoming = () => this.isWanted && this.grants === 0
    const disk = {
      arriving: {
        begin: async () => {
          await this.grantWork()
          this.grants++
        },
      },
      isFinal: () => false,
      record: { offered: theirs(moved.disk), deed: null },
    }
    const coming = {
      id: moved.disk,
      disk,
      name: 'web01',
      frozen: moved,
      hasLeft: () => {},
      countMissing: () => {},
      get isIncoming() {
        return isIncoming()
      },
    }
    return coming as unknown as ComingDisk
  }

  #host(): DestinationHost {
    const course = { id: 'm-1', terms: this.terms, record: { state: 'ready', disks: [{ name: 'web01' }] } }
    const host = {
      course,
      services: { clock: this.clock, siteId: 'here', ...keys },
      stopping: this.stop.signal,
      update: (_: object, plans: () => Promise<unknown>) => plans(),
      note: (sentence: string | null) => void this.notes.push(sentence),
      tell: () => {},
      tellCutOff: () => {},
      now: () => this.clock.date().toISOString(),
    }
    return host as unknown as DestinationHost
  }

  order(force: boolean): Promise<AcquireAnswer | undefined> {
    return this.switchover.order(force, this.stop.signal)
  }

  guest(): { readonly done: Promise<void>; readonly goes: AbortController } {
    const goes = new AbortController()
    const done = this.switchover.hold('web01', goes.signal)
    done.catch(() => {})
    return { done, goes }
  }
}

describe('switchover', () => {
  let asking: Asking
  beforeEach(() => {
    asking = new Asking()
  })
  afterEach(() => asking.stop.abort(new Error('the test is over')))

  it('asks nothing while nobody waits', async () => {
    await asking.clock.advance(60_000)
    assert.deepEqual(asking.reasons, [])
  })

  it('a granted write goes on, once the grant is durable here', async () => {
    const durable = Promise.withResolvers<void>()
    asking.answer = async () => grant
    asking.grantWork = () => durable.promise
    const { done } = asking.guest()
    assert.equal(await isSettled(done), false)
    durable.resolve()
    await done
    assert.deepEqual([asking.reasons, asking.grants], [['guest-write'], 1])
  })

  it('asks once for all the writes that wait', async () => {
    asking.answer = async () => grant
    await Promise.all([asking.guest().done, asking.guest().done, asking.guest().done])
    assert.deepEqual([asking.reasons.length, asking.grants], [1, 1])
  })

  describe('of disks that are copied ahead', () => {
    it('a write that comes before they are ready waits for that, and then the source is asked', async () => {
      asking.isArmed = false
      asking.answer = async () => grant
      const { done } = asking.guest()
      await asking.clock.advance(waitMs - 1)
      assert.deepEqual([await isSettled(done), asking.reasons], [false, []])
      asking.isArmed = true
      asking.armed.resolve()
      await done
      assert.deepEqual(asking.reasons, ['guest-write'])
    })

    it('and is refused, as by a busy source, when they are not ready in time', async () => {
      asking.isArmed = false
      const { done } = asking.guest()
      await asking.clock.advance(waitMs)
      await assert.rejects(done, {
        code: 'not-permitted',
        message: /copied ahead .* vmstore migration switchover m-1$/,
      })
      assert.deepEqual(asking.reasons, [])
    })

    it("the operator's word takes them all the same, and the write that waits goes on", async () => {
      asking.isArmed = false
      asking.answer = async () => grant
      const { done } = asking.guest()
      await asking.order(false)
      await done
      assert.deepEqual(asking.reasons, ['operator'])
    })

    it('the source is not asked before what is left fits into the last moments', async () => {
      const looked = Promise.withResolvers<void>()
      asking.lastMoments = looked.promise
      asking.answer = async () => grant
      const { done } = asking.guest()
      await asking.clock.advance(60_000)
      assert.deepEqual([await isSettled(done), asking.reasons], [false, []])
      asking.lastMoments = undefined
      looked.resolve()
      await done
      assert.deepEqual(asking.reasons, ['guest-write'])
    })

    it('but is asked again where its answer was lost: it may have granted', async () => {
      asking.answer = () => Promise.reject(new LinkError('lost', 'the link is down'))
      asking.guest()
      await asking.clock.advance(1)
      asking.lastMoments = new Promise(() => {})
      asking.answer = async () => grant
      await asking.clock.advance(10_000)
      assert.equal(asking.grants, 1)
    })
  })

  describe('of a source that answers busy', () => {
    it('asks again, and the write goes on when the source is quiet', async () => {
      const { done } = asking.guest()
      await asking.clock.advance(3000)
      assert.equal(await isSettled(done), false)
      asking.answer = async () => grant
      await asking.clock.advance(250)
      await done
    })

    it('asks at least four times a second', async () => {
      asking.guest()
      await asking.clock.advance(5000)
      assert(asking.reasons.length >= 20, String(asking.reasons.length))
    })

    it('a write is refused with NBD_EPERM after the wait, with the reason, and no sooner', async () => {
      const { done } = asking.guest()
      await asking.clock.advance(waitMs - 1)
      assert.equal(await isSettled(done), false)
      await asking.clock.advance(300)
      await assert.rejects(done, { name: 'GuestError', code: 'not-permitted', message: /10\.0\.0\.7/ })
    })

    it('each write has a wait of its own', async () => {
      const first = asking.guest()
      await asking.clock.advance(6000)
      const second = asking.guest()
      await asking.clock.advance(5000)
      await assert.rejects(first.done, { code: 'not-permitted' })
      assert.equal(await isSettled(second.done), false)
      await asking.clock.advance(6000)
      await assert.rejects(second.done, { code: 'not-permitted' })
    })

    it('asks no more once nobody waits', async () => {
      asking.guest()
      await asking.clock.advance(waitMs + 500)
      const count = asking.reasons.length
      await asking.clock.advance(60_000)
      assert.equal(asking.reasons.length, count)
    })

    it('is not unanswered: the source owns', async () => {
      asking.guest()
      await asking.clock.advance(1)
      assert.equal(asking.switchover.unanswered, false)
    })

    it('asks for a write that comes after others were refused', async () => {
      asking.guest()
      await asking.clock.advance(waitMs + 500)
      asking.answer = async () => grant
      await asking.guest().done
    })
  })

  describe('of a source that is out of reach', () => {
    it('promise 2: asks again after a lost answer', async () => {
      asking.answer = lost
      const { done } = asking.guest()
      await asking.clock.advance(10_000)
      assert(asking.reasons.length > 4)
      asking.answer = async () => grant
      await asking.clock.advance(2000)
      await done
    })

    it('a write waits for as long as it takes: only a busy answer counts', async () => {
      asking.answer = lost
      const { done } = asking.guest()
      await asking.clock.advance(10 * waitMs)
      assert.equal(await isSettled(done), false)
    })

    it('the time out of reach does not count for a write that had a busy answer before', async () => {
      const { done } = asking.guest()
      await asking.clock.advance(1000)
      asking.answer = lost
      await asking.clock.advance(10 * waitMs)
      asking.answer = async () => busy
      await asking.clock.advance(3000)
      assert.equal(await isSettled(done), false, 'the source answered busy for 4 s')
      await asking.clock.advance(waitMs + 300)
      await assert.rejects(done, { code: 'not-permitted' })
    })

    it('promise 2: nobody here knows who owns the disk until it is answered', async () => {
      asking.answer = lost
      asking.guest()
      await asking.clock.advance(1000)
      assert.equal(asking.switchover.unanswered, true)
      asking.answer = async () => busy
      await asking.clock.advance(2000)
      assert.equal(asking.switchover.unanswered, false)
    })

    it('says so, and says when it is over', async () => {
      asking.answer = lost
      const { done } = asking.guest()
      await settled()
      assert.match(asking.notes.at(-1)!, /out of reach/)
      asking.answer = async () => grant
      await asking.clock.advance(2000)
      await done
      assert.equal(asking.notes.at(-1), null)
    })

    describe('whose guest goes before the answer comes', () => {
      async function guestGoes(): Promise<void> {
        asking.answer = lost
        const { goes } = asking.guest()
        await asking.clock.advance(1000)
        goes.abort(new Error('the client is gone'))
      }

      it('promise 2: finds out whether the source has departed, and takes the grant if so', async () => {
        await guestGoes()
        asking.departed = true
        asking.answer = async () => grant
        await asking.clock.advance(5000)
        assert.equal(asking.reasons.at(-1), 'resume')
        assert.equal(asking.grants, 1)
      })

      it('asks for nothing more when the source has not departed: nobody waits for it', async () => {
        await guestGoes()
        await asking.clock.advance(3000)
        const count = asking.reasons.length
        await asking.clock.advance(60_000)
        assert.equal(asking.reasons.length, count)
        assert.deepEqual([asking.switchover.unanswered, asking.switchover.active, asking.inquiries], [false, false, 1])
      })
    })
  })

  describe('of a guest that goes', () => {
    it('its write is answered with why', async () => {
      const { done, goes } = asking.guest()
      await asking.clock.advance(100)
      goes.abort(new Error('the client is gone'))
      await assert.rejects(done, /the client is gone/)
    })

    it('asks no more for it', async () => {
      const { goes } = asking.guest()
      await asking.clock.advance(100)
      goes.abort(new Error('the client is gone'))
      await asking.clock.advance(1000)
      const count = asking.reasons.length
      await asking.clock.advance(60_000)
      assert.equal(asking.reasons.length, count)
      assert.equal(asking.grants, 0)
    })

    it('asks on for the others', async () => {
      const gone = asking.guest()
      const stays = asking.guest()
      await asking.clock.advance(100)
      gone.goes.abort(new Error('the client is gone'))
      asking.answer = async () => grant
      await asking.clock.advance(1000)
      await stays.done
    })

    it('that is gone already asks nothing', async () => {
      await assert.rejects(asking.switchover.hold('web01', AbortSignal.abort(new Error('gone'))), /gone/)
      await settled()
      assert.deepEqual(asking.reasons, [])
    })
  })

  describe('of readers only', () => {
    it('asks once, and a busy answer ends it', async () => {
      asking.switchover.command('reader-only')
      await asking.clock.advance(60_000)
      assert.deepEqual(asking.reasons, ['reader-only'])
      assert.equal(asking.switchover.active, false)
    })

    it('asks again after a lost answer', async () => {
      asking.answer = lost
      asking.switchover.command('reader-only')
      await asking.clock.advance(1000)
      asking.answer = async () => grant
      await asking.clock.advance(2000)
      assert.equal(asking.grants, 1)
    })

    it('does not keep a write from being asked for', async () => {
      asking.switchover.command('reader-only')
      const { done } = asking.guest()
      await asking.clock.advance(1000)
      asking.answer = async () => grant
      await asking.clock.advance(1000)
      await done
      assert.equal(asking.reasons[0], 'reader-only')
      assert(asking.reasons.slice(1).every((reason) => reason === 'guest-write'))
    })

    it("does not take the operator's word back", async () => {
      asking.answer = lost
      asking.switchover.command('operator')
      asking.switchover.command('reader-only')
      await asking.clock.advance(1000)
      assert(asking.reasons.every((reason) => reason === 'operator'))
    })
  })

  it("asks on for the operator's word with nobody waiting", async () => {
    asking.answer = lost
    asking.switchover.command('operator')
    await asking.clock.advance(30_000)
    asking.answer = async () => grant
    await asking.clock.advance(2000)
    assert.equal(asking.grants, 1)
  })

  describe('for an operator, while a client works at the source', () => {
    const why = 'the session of 10.0.0.7 has written and has not flushed since'
    const atWork: AcquireAnswer = { answer: 'busy', why, isAtWork: true }

    it('the operator hears who it is, and it is not asked on until that client pauses', async () => {
      asking.answer = async () => atWork
      assert.deepEqual(await asking.order(false), atWork)
      await asking.clock.advance(60_000)
      assert.deepEqual([asking.reasons, asking.switchover.active, asking.notes.at(-1)], [['operator'], false, null])
    })

    it('by force it is asked for, and only then', async () => {
      asking.answer = async () => (asking.forced.at(-1) ? grant : atWork)
      assert.equal((await asking.order(false))?.answer, 'busy')
      assert.equal((await asking.order(true))?.answer, 'granted')
      assert.deepEqual(asking.forced, [false, true])
    })

    it('a forced word that comes while the one before is answered is asked for too', async () => {
      const first = Promise.withResolvers<AcquireAnswer>()
      asking.answer = () => (asking.forced.at(-1) ? Promise.resolve(grant) : first.promise)
      const [unforced, forced] = [asking.order(false), asking.order(true)]
      first.resolve(atWork)
      assert.equal((await unforced)?.answer, 'busy')
      await asking.clock.advance(1000)
      assert.equal((await forced)?.answer, 'granted')
    })

    it('writes that wait go on waiting, as for any busy source', async () => {
      asking.answer = async () => atWork
      const { done } = asking.guest()
      await asking.clock.advance(100)
      const order = asking.order(false)
      await asking.clock.advance(1000)
      assert.deepEqual(await order, atWork)
      assert.equal(await isSettled(done), false)
      asking.answer = async () => grant
      await asking.clock.advance(1000)
      await done
    })

    it('where no operator waits for the answer, it is noted with what to do', async () => {
      asking.answer = async () => atWork
      asking.switchover.command('operator')
      await asking.clock.advance(60_000)
      assert.equal(asking.reasons.length, 1)
      assert.match(asking.notes.at(-1) ?? '', /not switched over: at the source, the session of 10\.0\.0\.7.*--force/)
    })

    it('an operator is not kept waiting by a source that is away, and is asked for all the same', async () => {
      asking.answer = lost
      assert.equal(await asking.order(true), undefined)
      asking.answer = async () => grant
      await asking.clock.advance(5000)
      assert.deepEqual([asking.grants, asking.forced.at(-1)], [1, true])
    })

    it('an operator who waited for too long is told so, and what comes later is noted', async () => {
      const late = Promise.withResolvers<AcquireAnswer>()
      asking.answer = () => late.promise
      const order = asking.order(false)
      await asking.clock.advance(5000)
      assert.equal(await order, undefined)
      late.resolve(atWork)
      await asking.clock.advance(1000)
      assert.match(asking.notes.at(-1) ?? '', /not switched over/)
    })

    it('an operator whose word comes while readers are asked for is not forgotten with them', async () => {
      const first = Promise.withResolvers<AcquireAnswer>()
      asking.answer = () => (asking.reasons.length === 1 ? first.promise : Promise.resolve(grant))
      asking.switchover.command('reader-only')
      const order = asking.order(false)
      first.resolve(busy)
      await asking.clock.advance(1000)
      assert.equal((await order)?.answer, 'granted')
    })
  })

  describe('of a source that refuses', () => {
    const refusal: AcquireAnswer = { answer: 'refused', code: 'cancelled', message: 'the migration is cancelled' }

    it('a write gets NBD_ESHUTDOWN, after the course has heard of it', async () => {
      asking.answer = async () => refusal
      const { done } = asking.guest()
      await assert.rejects(done, { name: 'GuestError', code: 'not-served', message: /cancelled/ })
      assert.deepEqual(asking.refusals, ['cancelled'])
    })

    it('asks no more', async () => {
      asking.answer = async () => refusal
      asking.switchover.command('operator')
      await asking.clock.advance(60_000)
      assert.equal(asking.reasons.length, 1)
      assert.equal(asking.switchover.unanswered, false)
    })
  })

  it('asks no more when the migration is over, and tells those who wait', async () => {
    const { done } = asking.guest()
    await asking.clock.advance(100)
    asking.isWanted = false
    asking.switchover.end(new Error('the migration is cancelled'))
    await assert.rejects(done, /cancelled/)
    await asking.clock.advance(1000)
    const count = asking.reasons.length
    await asking.clock.advance(10_000)
    assert.equal(asking.reasons.length, count)
    await assert.rejects(asking.guest().done, { code: 'not-served' })
  })

  it('stops asking when the site stops, and tells those who wait', async () => {
    const { done } = asking.guest()
    await asking.clock.advance(100)
    asking.stop.abort(new Error('this site is stopping'))
    await assert.rejects(done, { code: 'io', message: /stopping/ })
    const count = asking.reasons.length
    await asking.clock.advance(10_000)
    assert.equal(asking.reasons.length, count)
  })

  describe('by hand', () => {
    beforeEach(() => {
      asking.terms.switchover = 'manual'
    })

    it('a write waits for the operator without a question, and is refused when the word does not come in time', async () => {
      const { done } = asking.guest()
      await asking.clock.advance(waitMs - 1)
      assert.deepEqual([await isSettled(done), asking.reasons], [false, []])
      await asking.clock.advance(1)
      await assert.rejects(done, {
        code: 'not-permitted',
        message: /switched over by hand: vmstore migration switchover m-1/,
      })
    })

    it('a write goes on when the operator has said so, and this site owns', async () => {
      asking.answer = async () => grant
      const { done } = asking.guest()
      await asking.order(false)
      await done
      assert.deepEqual([asking.reasons, asking.grants], [['operator'], 1])
    })
  })

  it('promise 2: a grant of another disk is none, and the source is asked again', async () => {
    const other = '66666666-6666-4666-8666-666666666666'
    asking.answer = async () => ({ ...grant, disks: [{ ...grant.disks[0]!, disk: other }] })
    const { done } = asking.guest()
    await settled()
    assert.deepEqual([await isSettled(done), asking.grants], [false, 0])
    assert.match(asking.notes.at(-1) ?? '', /the source could not answer: the move is of disk 3333.* speaks of 6666/)
    asking.answer = async () => grant
    await asking.clock.advance(2000)
    await done
    assert.equal(asking.grants, 1)
  })
})
