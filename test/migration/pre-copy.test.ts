// The copy ahead of switchover, with a source of which the test says what it gives out, and when its blocks come.

import assert from 'node:assert/strict'
import { blockSizeBytes } from '../../src/block/block-map.ts'
import type { Span } from '../../src/block/span.ts'
import type { Extent, Piece, Run } from '../../src/block/units.ts'
import { commitTogether } from '../../src/disk/plan.ts'
import { LinkError, PeerRefusal } from '../../src/link/channel.ts'
import { epochOverCode } from '../../src/migration/codes.ts'
import { Convergence } from '../../src/migration/copy/convergence.ts'
import { InFlight } from '../../src/migration/copy/in-flight.ts'
import { Pause } from '../../src/migration/copy/pause.ts'
import { PreCopy, type PreCopyParts } from '../../src/migration/copy/pre-copy.ts'
import { RateLimit } from '../../src/migration/copy/rate-limit.ts'
import { Window } from '../../src/migration/copy/window.ts'
import type { Collected, Collection, Copied, DiskAt } from '../../src/migration/counterpart.ts'
import { block, closeDisksAfterEach, HandSource, openDisk, ReadySource, settled } from '../disk/hand.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { FakeClock } from './fake-time.ts'

const epochs = ['55555555-5555-4555-8555-555555555555', '66666666-6666-4666-8666-666666666666'] as const
const blocks = 64

/** What a tracked source does: it gives out what is dirty, and holds it until it is confirmed. */
class Tracked {
  epoch: string = epochs[0]
  round = 0
  readonly count: number
  dirty: Set<number>
  readonly given = new Map<number, number[]>()
  readonly asked: Omit<Collection, keyof DiskAt>[] = []
  readonly tracked: (Copied | null)[] = []
  failure: Error | undefined

  constructor(count: number) {
    this.count = count
    this.dirty = new Set(Array.from({ length: count }, (_, index) => index))
  }

  async track(copied: Copied | null) {
    this.tracked.push(copied)
    const isSame = copied?.epoch === this.epoch
    for (const [round, out] of this.given) {
      if (!isSame || round > copied!.confirmed) for (const each of out) this.dirty.add(each)
    }
    this.given.clear()
    if (!isSame) {
      this.dirty = new Set(Array.from({ length: this.count }, (_, index) => index))
      this.round = 0
    }
    return { epoch: this.epoch, isSame, round: this.round }
  }

  async collect(asked: Omit<Collection, keyof DiskAt>): Promise<Collected> {
    this.asked.push(asked)
    const failure = this.failure
    this.failure = undefined
    if (failure) throw failure
    if (asked.epoch !== this.epoch) throw new PeerRefusal(epochOverCode, 'another epoch')
    assert.equal(asked.round, this.round + 1)
    this.round = asked.round
    for (const round of this.given.keys()) if (round <= asked.confirmed) this.given.delete(round)
    const first = asked.run.offset / blockSizeBytes
    const end = first + asked.run.length / blockSizeBytes
    const out = [...this.dirty].filter((each) => each >= first && each < end).sort((a, b) => a - b)
    for (const each of out) this.dirty.delete(each)
    this.given.set(asked.round, out)
    return { spans: out.map((each): Span => ({ first: each, end: each + 1 })), left: this.dirty.size }
  }

  /** Of those that are not confirmed. */
  get unconfirmed(): number[] {
    return [...this.given.values()].flat()
  }
}

async function scene(
  source: { fetch(runs: readonly Run[], options: never): AsyncIterable<Piece> },
  facts: Partial<PreCopyParts> = {},
  count = blocks,
) {
  const { disk, files } = await openDisk(new HandSource(), {
    ...{ state: 'incoming', generation: 1, owner: 'there' },
    sizeBytes: count * block,
  })
  const clock = new FakeClock()
  const tracked = new Tracked(count)
  const window = new Window()
  const pause = new Pause(false)
  const convergence = new Convergence({ clock, mustFit: false, judged: () => {} })
  const unreadable: (readonly Run[])[] = []
  const copy = new PreCopy({
    disk,
    clock,
    source: source as never,
    track: (copied) => tracked.track(copied),
    collect: (asked) => tracked.collect(asked),
    extents: async (offset, length) => [{ offset, length, data: true }],
    begin: async (epoch) => commitTogether([await disk.arriving.ahead.begin(epoch)]),
    limit: new RateLimit(clock, null),
    pause,
    window,
    inFlight: new InFlight(window),
    convergence,
    progressed: () => {},
    unreadable: (runs) => void unreadable.push(runs),
    ...facts,
  })
  const stop = new AbortController()
  const run = () => {
    const running = copy.run(stop.signal)
    running.catch(() => {})
    return running
  }
  return { disk, files, clock, tracked, pause, convergence, copy, stop, run, unreadable }
}

/** Lets real files do what they are asked. */
async function until(isSo: () => boolean): Promise<void> {
  for (let turns = 0; !isSo(); turns++) {
    assert(turns < 100_000)
    await settled()
  }
}

describe('pre-copy', () => {
  closeDisksAfterEach()
  removeFoldersAfterEach()

  it('brings everything, then what was written since, and confirms it when it is durable', async () => {
    const { disk, tracked, convergence, clock, run, stop } = await scene(new ReadySource())
    const running = run()
    await until(() => convergence.isInStep)
    assert.equal(disk.arriving.ahead.blocks, blocks)
    assert.deepEqual(tracked.tracked, [null])
    tracked.dirty.add(5).add(6)
    for (const isSo of [() => tracked.dirty.size === 0, () => tracked.unconfirmed.length === 0])
      while (!isSo()) await clock.advance(1000)
    stop.abort(new Error('over'))
    await assert.rejects(running, /over/)
  })

  it('promise 4: nothing is confirmed before it is durable', async () => {
    const { files, tracked, clock, convergence, run } = await scene(new ReadySource())
    files.hold('sync')
    const reached = files.waiting('sync')
    void run()
    await reached
    await clock.advance(60_000)
    assert.equal(tracked.unconfirmed.length, blocks)
    assert(!convergence.isInStep)
    assert(tracked.asked.every(({ confirmed }) => confirmed === 0))
    files.release('sync')
    await until(() => convergence.isInStep)
  })

  it('blocks are asked for after the source has given them out', async () => {
    const source = new HandSource()
    const { tracked, run } = await scene(source)
    void run()
    await source.asked(0)
    assert.equal(tracked.unconfirmed.length, blocks, 'they are out, and dirty no more')
  })

  it('a long hole is no data on its way, wherever it lies between what is', async () => {
    const source = new HandSource()
    const all: Extent[] = [
      { offset: 0, length: 5000 * block, data: false },
      { offset: 5000 * block, length: 2 * block, data: true },
      { offset: 5002 * block, length: 5000 * block, data: false },
    ]
    const extents = async (offset: number) => all.filter((extent) => extent.offset + extent.length > offset)
    const { copy, tracked, run } = await scene(source, { extents }, 10_002)
    void run()
    await source.asked(0)
    assert.equal(tracked.asked.length, 1, 'all in one question')
    assert.equal(copy.leftBytes, 2 * block)
  })

  it('comes in rounds that are as short as it is told', async () => {
    const { tracked, convergence, run } = await scene(new ReadySource(), { roundBytes: 4 * block })
    void run()
    await until(() => convergence.isInStep)
    assert.deepEqual(
      tracked.asked.slice(0, 3).map(({ run }) => run),
      [0, 1, 2].map((index) => ({ offset: index * 4 * block, length: 4 * block })),
    )
  })

  it('no more rounds are asked for than a source remembers, however little is in each', async () => {
    const source = new HandSource()
    const { tracked, run } = await scene(source, { roundBytes: block })
    void run()
    await source.asked(31)
    for (let turns = 0; turns < 200; turns++) await settled()
    assert.equal(tracked.asked.length, 32)
  })

  it('a link that breaks has what was given out and not confirmed come again, under the same epoch', async () => {
    const source = new HandSource()
    const { tracked, copy, disk, run } = await scene(source)
    const running = run()
    const fetch = await source.asked(0)
    await fetch.yield({ offset: 0, length: block, bytes: Buffer.alloc(block, 1) })
    fetch.fail(new LinkError('lost', 'the link is down'))
    await assert.rejects(running, /the link is down/)
    assert.equal(disk.arriving.ahead.blocks, 1)
    void run()
    await source.asked(1)
    assert.deepEqual(tracked.tracked[1], { epoch: epochs[0], confirmed: 0, round: 1 })
    assert.equal(copy.copied?.epoch, epochs[0])
    assert.equal(tracked.unconfirmed.length, blocks)
  })

  it('an epoch that is over at the source leaves nothing here', async () => {
    const { tracked, convergence, disk, clock, run } = await scene(new ReadySource())
    const running = run()
    await until(() => convergence.isInStep)
    tracked.epoch = epochs[1]
    await clock.advance(60_000)
    await assert.rejects(running, { code: epochOverCode })
    void run()
    await until(() => disk.arriving.ahead.epoch === epochs[1])
    await until(() => convergence.isInStep)
    assert.deepEqual([disk.arriving.ahead.blocks, tracked.tracked[1]?.epoch], [blocks, epochs[0]])
  })

  it('after a sync that failed, all is copied anew', async () => {
    const { files, tracked, convergence, disk, run } = await scene(new ReadySource())
    files.failOnce('sync', new Error('EIO'))
    await assert.rejects(run(), /EIO/)
    tracked.epoch = epochs[1]
    void run()
    await until(() => convergence.isInStep)
    assert.deepEqual([tracked.tracked[1], disk.arriving.ahead.blocks], [null, blocks])
  })

  it('what the source cannot read is left out, and keeps nothing else from coming', async () => {
    const bad = { offset: 3 * block, length: 2 * block }
    const ready = new ReadySource()
    const source = {
      async *fetch(runs: readonly Run[]): AsyncGenerator<Piece> {
        for (const run of runs) {
          if (run.offset + run.length <= bad.offset || run.offset >= bad.offset + bad.length) yield* ready.fetch([run])
          else {
            if (run.offset < bad.offset) yield* ready.fetch([{ offset: run.offset, length: bad.offset - run.offset }])
            throw new PeerRefusal('unreadable', 'it cannot be read', bad)
          }
        }
      },
    }
    const { disk, convergence, unreadable, run } = await scene(source)
    void run()
    await until(() => convergence.isInStep)
    assert.equal(disk.arriving.ahead.blocks, blocks - 2)
    assert.deepEqual(unreadable.at(-1), [bad])
  })

  it('a pause holds it', async () => {
    const { pause, tracked, convergence, clock, run } = await scene(new ReadySource())
    pause.set(true)
    void run()
    await clock.advance(60_000)
    assert.deepEqual(tracked.asked, [])
    pause.set(false)
    await until(() => convergence.isInStep)
  })
})
