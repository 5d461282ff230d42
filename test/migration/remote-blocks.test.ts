import assert from 'node:assert/strict'
import type { Piece, Run } from '../../src/block/units.ts'
import { LinkError, PeerRefusal } from '../../src/link/channel.ts'
import type { DiskAt, SourceDesk } from '../../src/migration/counterpart.ts'
import { RemoteBlocks, type RemoteBlocksParts } from '../../src/migration/destination/remote-blocks.ts'
import { retryDelayMs } from '../../src/migration/retries.ts'
import { block, isSettled } from '../disk/hand.ts'
import { FakeClock } from './fake-time.ts'

const disk: DiskAt = { disk: '55555555-5555-4555-8555-555555555555', generation: 2 }

interface Request {
  readonly disk: DiskAt
  readonly runs: readonly Run[]
}

/** A source whose fetches are answered by the functions of a list, one after the other. */
function scripted(...answers: ((runs: readonly Run[]) => Iterable<Piece>)[]): {
  source: Pick<SourceDesk, 'blocks'>
  requests: Request[]
} {
  const requests: Request[] = []
  const source: Pick<SourceDesk, 'blocks'> = {
    async *blocks(disk, runs) {
      requests.push({ disk, runs })
      yield* answers[requests.length - 1]!(runs)
    },
  }
  return { source, requests }
}

/** Of a source, with what else they need. */
function blocksOf(source: RemoteBlocksParts['source'], parts: Partial<RemoteBlocksParts> = {}): RemoteBlocks {
  const refused = async (error: unknown) => {
    throw error
  }
  return new RemoteBlocks({ source, clock: new FakeClock(), disk, stallTimeoutMs: null, refused, ...parts })
}

const piece = (offset: number, length: number): Piece => ({ offset, length, bytes: Buffer.alloc(length, 1) })

function* whole(runs: readonly Run[]): Generator<Piece> {
  for (const run of runs) yield piece(run.offset, run.length)
}

describe('remote blocks', () => {
  async function fetched(
    source: RemoteBlocksParts['source'],
    runs: readonly Run[],
    clock = new FakeClock(),
  ): Promise<Piece[]> {
    const pieces: Piece[] = []
    const blocks = blocksOf(source, { clock })
    const work = (async () => {
      const signal = new AbortController().signal
      for await (const each of blocks.fetch(runs, { urgency: 'demand', signal })) pieces.push(each)
    })()
    work.catch(() => {})
    for (let round = 0; round < 20 && !(await isSettled(work)); round++) await clock.advance(2000)
    await work
    return pieces
  }

  it('ask for the disk, under the generation that they were given', async () => {
    const { source, requests } = scripted(whole)
    await fetched(source, [{ offset: 0, length: block }])
    assert.deepEqual(requests, [{ disk, runs: [{ offset: 0, length: block }] }])
  })

  it('promise 8: ask again for exactly what is left when the link broke', async () => {
    const { source, requests } = scripted(function* () {
      yield piece(2 * block, block)
      yield piece(10 * block, block)
      throw new LinkError('lost', 'the lane broke')
    }, whole)
    const pieces = await fetched(source, [
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
    const { source, requests } = scripted(function* (runs) {
      yield* whole(runs)
      throw new LinkError('lost', 'the lane broke')
    })
    await fetched(source, [{ offset: 0, length: 2 * block }])
    assert.equal(requests.length, 1)
  })

  it('wait longer after each attempt that brought nothing, up to two seconds, and begin anew after a piece', async () => {
    const clock = new FakeClock()
    const at: number[] = []
    const fails = () => {
      at.push(clock.now())
      throw new LinkError('unreachable', 'nobody there')
    }
    const { source } = scripted(
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
    await fetched(source, [{ offset: 0, length: 2 * block }], clock)
    assert.deepEqual(
      at.slice(1).map((time, index) => time - at[index]!),
      [50, 100, 200, 400, 800, 1600, 2000, 2000, 50],
    )
    assert.equal(retryDelayMs(1000), 2000)
  })

  it('give up when the peer says no', async () => {
    const { source, requests } = scripted(() => {
      throw new PeerRefusal('no-right', 'generation 2 is not yours')
    })
    await assert.rejects(fetched(source, [{ offset: 0, length: block }]), { code: 'no-right' })
    assert.equal(requests.length, 1)
  })

  it('give up when this site is stopping', async () => {
    const { source } = scripted(() => {
      throw new LinkError('closed', 'the site is stopping')
    })
    await assert.rejects(fetched(source, [{ offset: 0, length: block }]), { code: 'closed' })
  })

  it('stop waiting for the link when they are told to', async () => {
    const { source } = scripted(() => {
      throw new LinkError('unreachable', 'nobody there')
    })
    const stop = new AbortController()
    const blocks = blocksOf(source)
    const next = blocks.fetch([{ offset: 0, length: block }], { urgency: 'demand', signal: stop.signal }).next()
    assert.equal(await isSettled(next), false)
    stop.abort(new Error('stopped'))
    await assert.rejects(next, /stopped/)
  })

  describe('with a stall timeout', () => {
    const never = new AbortController().signal

    it('fail a demand fetch once nothing has come for so long, counted from the last piece', async () => {
      const clock = new FakeClock()
      const { source } = scripted(
        function* () {
          yield piece(0, block)
          throw new LinkError('lost', 'the lane broke')
        },
        ...new Array(9).fill(() => {
          throw new LinkError('unreachable', 'nobody there')
        }),
      )
      const blocks = blocksOf(source, { clock, stallTimeoutMs: 1000 })
      const pieces = blocks.fetch([{ offset: 0, length: 2 * block }], { urgency: 'demand', signal: never })
      await clock.advance(900) // Nobody asks yet: a generator that has not begun counts nothing.
      assert.equal((await pieces.next()).value?.offset, 0)
      const next = pieces.next()
      next.catch(() => {})
      await clock.advance(999)
      assert.equal(await isSettled(next), false)
      await clock.advance(1)
      await assert.rejects(next, (error: Error & { code?: string }) => error.code === 'io' && /1 s/.test(error.message))
      assert.equal(clock.sleeping, 0, 'no timer is left')
    })

    it('let the background wait for ever', async () => {
      const clock = new FakeClock()
      const { source } = scripted(
        ...new Array(99).fill(() => {
          throw new LinkError('unreachable', 'nobody there')
        }),
      )
      const blocks = blocksOf(source, { clock, stallTimeoutMs: 1000 })
      const next = blocks.fetch([{ offset: 0, length: block }], { urgency: 'background', signal: never }).next()
      next.catch(() => {})
      await clock.advance(60_000)
      assert.equal(await isSettled(next), false)
    })
  })

  it('ask for at most 1024 runs in one request', async () => {
    const { source, requests } = scripted(whole, whole, whole)
    const runs = Array.from({ length: 2500 }, (_, index) => ({ offset: 2 * index * block, length: block }))
    assert.equal((await fetched(source, runs)).length, 2500)
    assert.deepEqual(
      requests.map((request) => request.runs.length),
      [1024, 1024, 452],
    )
  })

  it('ask on for what is left when whoever heeds a refusal says so, and end when it says that nothing more is to come', async () => {
    const refuses = () => {
      throw new PeerRefusal('no-right', 'it is departing')
    }
    const heeded: ('again' | 'over')[] = ['again', 'over']
    const { source, requests } = scripted(function* () {
      yield piece(0, block)
      refuses()
    }, refuses)
    const blocks = blocksOf(source, { refused: async () => heeded.shift()! })
    const pieces: number[] = []
    const signal = new AbortController().signal
    for await (const { offset } of blocks.fetch([{ offset: 0, length: 2 * block }], { urgency: 'demand', signal }))
      pieces.push(offset)
    assert.deepEqual([pieces, requests[1]!.runs, requests.length], [[0], [{ offset: block, length: block }], 2])
  })
})
