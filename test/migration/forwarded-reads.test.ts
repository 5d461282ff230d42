import assert from 'node:assert/strict'
import { PeerRefusal } from '../../src/link/channel.ts'
import { ForwardedReads } from '../../src/migration/destination/forwarded-reads.ts'
import { RemoteBlocks } from '../../src/migration/destination/remote-blocks.ts'
import { isSettled } from '../disk/hand.ts'
import { FakeClock } from './fake-time.ts'

describe('reads of an incoming disk', () => {
  it('end when their client goes, though the source does not say how the migration stands', async () => {
    const clock = new FakeClock()
    const reads = new ForwardedReads({
      diskName: 'web01',
      clock,
      remote: (refused) =>
        new RemoteBlocks({
          clock,
          disk: { disk: 'd-1', generation: 1 },
          stallTimeoutMs: null,
          refused,
          source: {
            // biome-ignore lint/correctness/useYield: it has nothing to give.
            async *blocks() {
              throw new PeerRefusal('no-right', 'it has departed')
            },
          },
        }),
      isIncoming: () => true,
      isAcquiring: () => false,
      inquire: () => new Promise(() => {}),
      hasDeparted: () => assert.fail('nobody said so'),
      isCancelled: () => assert.fail('nobody said so'),
    })
    const gone = new AbortController()
    const read = reads
      .fetch([{ offset: 0, length: 4096 }], { urgency: 'demand', signal: gone.signal })
      [Symbol.asyncIterator]()
      .next()
    assert.equal(await isSettled(read), false)
    gone.abort(new Error('the client is gone'))
    await assert.rejects(read, /the client is gone/)
  })
})
