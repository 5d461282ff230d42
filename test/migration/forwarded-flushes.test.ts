import assert from 'node:assert/strict'
import { LinkError, PeerRefusal } from '../../src/link/channel.ts'
import { ForwardedFlushes, type ForwardedFlushesParts } from '../../src/migration/destination/forwarded-flushes.ts'
import { isSettled, settled } from '../disk/hand.ts'
import { FakeClock } from './fake-time.ts'

const boot = 'boot-1'
const never = new AbortController().signal

/** Flushes whose questions to the source the test answers. */
function arrange(parts: Partial<ForwardedFlushesParts> = {}) {
  const asked: PromiseWithResolvers<{ boot: string }>[] = []
  const clock = new FakeClock()
  const flushes = new ForwardedFlushes({
    diskName: 'web01',
    clock,
    stallTimeoutMs: null,
    signal: never,
    ask: () => {
      asked.push(Promise.withResolvers())
      return asked.at(-1)!.promise
    },
    sourceBoot: () => boot,
    isIncoming: () => true,
    isAcquiring: () => false,
    inquire: () => new Promise(() => {}),
    hasDeparted: () => assert.fail('nobody said so'),
    isCancelled: () => assert.fail('nobody said so'),
    ...parts,
  })
  return { flushes, asked, clock }
}

describe('flushes of an incoming disk', () => {
  it('promise 6: one that comes while the source syncs is covered by a sync of its own', async () => {
    const { flushes, asked } = arrange()
    const first = flushes.flush(never)
    const others = [flushes.flush(never), flushes.flush(never)]
    asked[0]!.resolve({ boot })
    await first
    for (const other of others) assert.equal(await isSettled(other), false)
    assert.equal(asked.length, 2, 'those that wait share one question')
    asked[1]!.resolve({ boot })
    await Promise.all(others)
  })

  it('ends when its client goes, and others go on waiting', async () => {
    const { flushes, asked } = arrange()
    const gone = new AbortController()
    const left = flushes.flush(gone.signal)
    const other = flushes.flush(never)
    gone.abort(new Error('the client is gone'))
    await assert.rejects(left, /the client is gone/)
    asked[0]!.resolve({ boot })
    await settled()
    asked[1]!.resolve({ boot })
    await other
  })

  it('asks again when the link breaks, or the source is starting', async () => {
    const { flushes, asked, clock } = arrange()
    const flush = flushes.flush(never)
    asked[0]!.reject(new LinkError('lost', 'the lane broke'))
    await clock.advance(60_000)
    asked[1]!.reject(new PeerRefusal('starting', 'ask again'))
    await clock.advance(60_000)
    asked[2]!.resolve({ boot })
    await flush
  })

  it('fails when nothing is heard of the source for --stall-timeout', async () => {
    const { flushes, clock } = arrange({ stallTimeoutMs: 5000 })
    const flush = flushes.flush(never)
    await clock.advance(4999)
    assert.equal(await isSettled(flush), false)
    const failed = assert.rejects(flush, { code: 'io', message: /--stall-timeout/ })
    await clock.advance(1)
    await failed
  })

  it('promise 6: fails where the source is too old to know what is asked, and is no success', async () => {
    const { flushes, asked } = arrange()
    const flush = flushes.flush(never)
    asked[0]!.reject(new PeerRefusal('unknown-method', 'a source does not know flush'))
    await assert.rejects(flush, { code: 'io', message: /cannot be asked to sync web01/ })
  })

  it('promise 6: fails where the source says that another copy of this site took the disk', async () => {
    const { flushes, asked } = arrange({
      inquire: async () => ({ state: 'taken', writersAreGone: false, sessions: 0, boot }),
    })
    const flush = flushes.flush(never)
    asked[0]!.reject(new PeerRefusal('no-right', 'it has departed'))
    await assert.rejects(flush, { code: 'io', message: /restored from an old copy/ })
  })

  it('has the grant asked for again where the source has departed, and ends when the disk is here', async () => {
    let isIncoming = true
    let asks = 0
    const { flushes, asked, clock } = arrange({
      isIncoming: () => isIncoming,
      inquire: async () => ({ state: 'departed', writersAreGone: false, sessions: 0, boot }),
      hasDeparted: () => asks++,
    })
    const flush = flushes.flush(never)
    asked[0]!.reject(new PeerRefusal('no-right', 'it has departed'))
    await settled()
    assert.equal(asks, 1)
    isIncoming = false
    await clock.advance(20)
    await flush
    assert.equal(asked.length, 1)
  })
})
