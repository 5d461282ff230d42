import assert from 'node:assert/strict'
import type { Piece, Run } from '../../src/disk/block-source.ts'
import { type FetchRequest, LinkError, type PeerChannel, PeerRefusal } from '../../src/link/channel.ts'
import { RemoteBlocks, retryDelayMs } from '../../src/migration/destination/remote-blocks.ts'
import { block, isSettled } from '../disk/hand.ts'
import { FakeClock } from './fake-time.ts'

const migration = '55555555-5555-4555-8555-555555555555'

/** A channel whose fetches are answered by the functions of a list, one after the other. */
function scripted(...answers: ((runs: readonly Run[]) => Iterable<Piece>)[]): {
  channel: PeerChannel
  requests: FetchRequest[]
} {
  const requests: FetchRequest[] = []
  const channel: PeerChannel = {
    peerId: 'source',
    call: () => assert.fail('no call is made'),
    callForBody: () => assert.fail('no call is made'),
    async *fetch(request) {
      requests.push(request)
      yield* answers[requests.length - 1]!(request.runs)
    },
  }
  return { channel, requests }
}

const piece = (offset: number, length: number): Piece => ({ offset, length, bytes: Buffer.alloc(length, 1) })

function* whole(runs: readonly Run[]): Generator<Piece> {
  for (const run of runs) yield piece(run.offset, run.length)
}

describe('remote blocks', () => {
  async function fetched(channel: PeerChannel, runs: readonly Run[], clock = new FakeClock()): Promise<Piece[]> {
    const pieces: Piece[] = []
    const blocks = new RemoteBlocks({ channel, clock, migration, generation: 2, stallTimeoutMs: null })
    const work = (async () => {
      const signal = new AbortController().signal
      for await (const each of blocks.fetch(runs, { urgency: 'demand', signal })) pieces.push(each)
    })()
    work.catch(() => {})
    for (let round = 0; round < 20 && !(await isSettled(work)); round++) await clock.advance(2000)
    await work
    return pieces
  }

  it('ask under the migration and generation that they were given', async () => {
    const { channel, requests } = scripted(whole)
    await fetched(channel, [{ offset: 0, length: block }])
    assert.deepEqual(requests, [{ migration, generation: 2, runs: [{ offset: 0, length: block }] }])
  })

  it('promise 8: ask again for exactly what is left when the link broke', async () => {
    const { channel, requests } = scripted(function* () {
      yield piece(2 * block, block)
      yield piece(10 * block, block)
      throw new LinkError('lost', 'the lane broke')
    }, whole)
    const pieces = await fetched(channel, [
      { offset: 0, length: 4 * block },
      { offset: 10 * block, length: 2 * block },
      { offset: 20 * block, length: block },
    ])
    assert.deepEqual(requests[1]!.runs, [
      { offset: 0, length: 2 * block },
      { offset: 3 * block, length: block },
      { offset: 11 * block, length: block },
      { offset: 20 * block, length: block },
    ])
    assert.equal(
      pieces.reduce((sum, { length }) => sum + length, 0),
      7 * block,
    )
  })

  it('ask for nothing more when the link broke after the last piece', async () => {
    const { channel, requests } = scripted(function* (runs) {
      yield* whole(runs)
      throw new LinkError('lost', 'the lane broke')
    })
    await fetched(channel, [{ offset: 0, length: 2 * block }])
    assert.equal(requests.length, 1)
  })

  it('wait longer after each attempt that brought nothing, up to two seconds, and begin anew after a piece', async () => {
    const clock = new FakeClock()
    const at: number[] = []
    const fails = () => {
      at.push(clock.now())
      throw new LinkError('unreachable', 'nobody there')
    }
    const { channel } = scripted(
      ...new Array(8).fill(fails),
      function* () {
        at.push(clock.now())
        yield piece(0, block)
        throw new LinkError('lost', 'the lane broke')
      },
      function* (runs: readonly Run[]) {
        at.push(clock.now())
        yield* whole(runs)
      },
    )
    await fetched(channel, [{ offset: 0, length: 2 * block }], clock)
    assert.deepEqual(
      at.slice(1).map((time, index) => time - at[index]!),
      [50, 100, 200, 400, 800, 1600, 2000, 2000, 50],
    )
    assert.equal(retryDelayMs(1000), 2000)
  })

  it('give up when the peer says no', async () => {
    const { channel, requests } = scripted(() => {
      throw new PeerRefusal('no-right', 'generation 2 is not yours')
    })
    await assert.rejects(fetched(channel, [{ offset: 0, length: block }]), { code: 'no-right' })
    assert.equal(requests.length, 1)
  })

  it('give up when this site is stopping', async () => {
    const { channel } = scripted(() => {
      throw new LinkError('closed', 'the site is stopping')
    })
    await assert.rejects(fetched(channel, [{ offset: 0, length: block }]), { code: 'closed' })
  })

  it('stop waiting for the link when they are told to', async () => {
    const { channel } = scripted(() => {
      throw new LinkError('unreachable', 'nobody there')
    })
    const stop = new AbortController()
    const blocks = new RemoteBlocks({ channel, clock: new FakeClock(), migration, generation: 2, stallTimeoutMs: null })
    const next = blocks.fetch([{ offset: 0, length: block }], { urgency: 'demand', signal: stop.signal }).next()
    assert.equal(await isSettled(next), false)
    stop.abort(new Error('stopped'))
    await assert.rejects(next, /stopped/)
  })

  describe('with a stall timeout', () => {
    const never = new AbortController().signal

    it('fail a demand fetch once nothing has come for so long, counted from the last piece', async () => {
      const clock = new FakeClock()
      const { channel } = scripted(
        function* () {
          yield piece(0, block)
          throw new LinkError('lost', 'the lane broke')
        },
        ...new Array(9).fill(() => {
          throw new LinkError('unreachable', 'nobody there')
        }),
      )
      const blocks = new RemoteBlocks({ channel, clock, migration, generation: 2, stallTimeoutMs: 1000 })
      const pieces = blocks.fetch([{ offset: 0, length: 2 * block }], { urgency: 'demand', signal: never })
      await clock.advance(900) // Nobody asks yet: a generator that has not begun counts nothing.
      assert.equal((await pieces.next()).value?.offset, 0)
      const next = pieces.next()
      next.catch(() => {})
      await clock.advance(999)
      assert.equal(await isSettled(next), false)
      await clock.advance(1)
      await assert.rejects(
        next,
        (error: Error & { code?: string }) => error.code === 'EIO' && /1 s/.test(error.message),
      )
      assert.equal(clock.sleeping, 0, 'no timer is left')
    })

    it('let the background wait for ever', async () => {
      const clock = new FakeClock()
      const { channel } = scripted(
        ...new Array(99).fill(() => {
          throw new LinkError('unreachable', 'nobody there')
        }),
      )
      const blocks = new RemoteBlocks({ channel, clock, migration, generation: 2, stallTimeoutMs: 1000 })
      const next = blocks.fetch([{ offset: 0, length: block }], { urgency: 'background', signal: never }).next()
      next.catch(() => {})
      await clock.advance(60_000)
      assert.equal(await isSettled(next), false)
    })
  })

  it('ask for at most 1024 runs in one request', async () => {
    const { channel, requests } = scripted(whole, whole, whole)
    const runs = Array.from({ length: 2500 }, (_, index) => ({ offset: 2 * index * block, length: block }))
    assert.equal((await fetched(channel, runs)).length, 2500)
    assert.deepEqual(
      requests.map((request) => request.runs.length),
      [1024, 1024, 452],
    )
  })
})
