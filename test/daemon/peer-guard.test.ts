import assert from 'node:assert/strict'
import { PeerGuard } from '../../src/daemon/peer-guard.ts'
import type { PeerHandlers } from '../../src/link/channel.ts'
import { usualLimits } from '../../src/migration/peer-rights.ts'
import { isSettled } from '../disk/hand.ts'

const never = new AbortController().signal
const fetch = { migration: 'm', disk: 'd', generation: 1, runs: [{ offset: 0, length: 4096 }] }

describe('promise 10: what a peer has under way here', () => {
  /** Those that wait, in the order in which they came; each ends when the test says so. */
  let waiting: PromiseWithResolvers<object>[]
  let limits = usualLimits
  let nowMs = 0
  let guard: PeerGuard
  let handlers: PeerHandlers

  beforeEach(() => {
    waiting = []
    limits = usualLimits
    nowMs = 0
    guard = new PeerGuard(
      () => limits,
      () => nowMs,
    )
    handlers = guard.guarding({
      call: () => {
        const work = Promise.withResolvers<object>()
        waiting.push(work)
        return work.promise
      },
      async *fetch() {
        yield { offset: 0, length: 4096, bytes: undefined }
      },
    })
  })

  it('is as many requests as it may have, calls and fetches together; more are refused, and counted', async () => {
    limits = { ...usualLimits, calls: 2 }
    const first = handlers.call('p', 'progress', {}, never)
    const pieces = handlers.fetch('p', fetch, 'demand', never)[Symbol.asyncIterator]()
    await pieces.next()
    assert.equal(guard.useOf('p').calls, 2)
    await assert.rejects(handlers.call('p', 'progress', {}, never), { code: 'over-limit' })
    assert.equal(guard.reachedBy('p', 'calls')?.count, 1)
    const other = handlers.call('q', 'progress', {}, never) // Another peer is not kept out.
    await pieces.return?.()
    const third = handlers.call('p', 'progress', {}, never)
    for (const { resolve } of waiting) resolve({})
    await Promise.all([first, third, other])
    assert.deepEqual(guard.useOf('p'), { calls: 0, digests: 0, junkBytes: 0 })
  })

  it('hashes for so many of its questions at once; the others wait for their turn, in order, and one that is given up leaves', async () => {
    limits = { ...usualLimits, digests: 1 }
    const asked = ['first', 'second', 'third'].map(() => new AbortController())
    const answers = asked.map(({ signal }) => handlers.call('p', 'digests', {}, signal))
    for (const answer of answers) answer.catch(() => {})
    assert.equal(await isSettled(answers[1]!), false)
    assert.deepEqual([waiting.length, guard.useOf('p').digests], [1, 1])
    asked[1]!.abort()
    await assert.rejects(answers[1]!, { code: 'aborted' })
    waiting[0]!.resolve({})
    await answers[0]
    assert.equal(await isSettled(answers[2]!), false)
    assert.equal(waiting.length, 2, 'the third is worked at')
    waiting[1]!.resolve({})
    await answers[2]
    assert.deepEqual(guard.useOf('p'), { calls: 0, digests: 0, junkBytes: 0 })
    assert.equal(guard.reachedBy('p', 'digests')?.count, 2)
  })

  it('may break the protocol so often an hour, and is kept out then until the hour is over, or it may more', () => {
    limits = { ...usualLimits, junkBytes: 100 }
    nowMs = 5
    guard.junk('p', 60)
    assert.equal(guard.isKeptOut('p'), false)
    nowMs += 1000
    guard.junk('p', 60)
    assert.deepEqual([guard.isKeptOut('p'), guard.isKeptOut('q')], [true, false])
    assert.deepEqual([guard.reachedBy('p', 'junkBytes')?.count, guard.useOf('p').junkBytes], [1, 120])
    limits = { ...usualLimits, junkBytes: 120 }
    assert.equal(guard.isKeptOut('p'), false)
    limits = { ...usualLimits, junkBytes: 0 }
    assert.equal(guard.isKeptOut('p'), true)
    nowMs = 5 + 3_600_000
    assert.deepEqual([guard.isKeptOut('p'), guard.useOf('p').junkBytes], [false, 0])
  })
})
