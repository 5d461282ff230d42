import assert from 'node:assert/strict'
import { BlockMap } from '../../src/block/block-map.ts'
import { withOwnMemory } from '../../src/block/own-memory.ts'
import type { Extent, Piece, Run } from '../../src/block/units.ts'
import type { BlockSource } from '../../src/disk/block-source.ts'
import type { Disk } from '../../src/disk/disk.ts'
import { PeerRefusal } from '../../src/link/channel.ts'
import { BackgroundCopy, type BackgroundCopyParts } from '../../src/migration/copy/background-copy.ts'
import { Pause } from '../../src/migration/copy/pause.ts'
import { RateLimit } from '../../src/migration/copy/rate-limit.ts'
import { Window } from '../../src/migration/copy/window.ts'
import { block, closeDisksAfterEach, isSettled, openDisk, ReadySource, settled } from '../disk/hand.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { FakeClock } from './fake-time.ts'

const mebibyte = 2 ** 20
const chunk = 256 * 1024

/** A disk that only counts: which chunks are missing, and what of it is durable. */
class CountingDisk {
  readonly sizeBytes: number
  isFailed = false
  readonly #missing: Uint8Array
  #landingBytes = 0
  landedBytes = 0
  savedBytes = 0
  mostUnsavedBytes = 0
  flushes = 0
  /** When set, landings and flushes wait for it. */
  landing: Promise<void> | undefined
  flushing: Promise<void> | undefined

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes
    this.#missing = new Uint8Array(Math.ceil(sizeBytes / block)).fill(1)
  }

  get arriving() {
    const [disk, missing] = [this, this.#missing]
    return {
      land: (piece: Piece) => disk.#land(piece),
      get unsavedBytes() {
        return disk.landedBytes + disk.#landingBytes - disk.savedBytes
      },
      get missingBlocks() {
        return missing.reduce((sum, bit) => sum + bit, 0)
      },
      firstMissing: (from: number, limit: number) => {
        const first = missing.indexOf(1, from)
        if (first < 0) return undefined
        const present = missing.indexOf(0, first)
        return { first, end: Math.min(present < 0 ? missing.length : present, first + limit) }
      },
      unsettled: () => undefined,
    }
  }

  async #land({ offset, length, bytes }: Piece): Promise<void> {
    this.#landingBytes += bytes ? length : 0
    await this.landing
    this.#landingBytes -= bytes ? length : 0
    this.#missing.fill(0, offset / block, Math.ceil((offset + length) / block))
    if (bytes) this.landedBytes += length
    this.mostUnsavedBytes = Math.max(this.mostUnsavedBytes, this.landedBytes - this.savedBytes)
  }

  async flush(): Promise<void> {
    const covered = this.landedBytes
    this.flushes++
    await this.flushing
    this.savedBytes = covered
  }
}

function partsOf(disk: Disk, source: BlockSource, facts: Partial<BackgroundCopyParts> = {}): BackgroundCopyParts {
  const clock = facts.clock ?? new FakeClock()
  return {
    disk,
    clock,
    source,
    extents: async (offset, length) => [{ offset, length, data: true }],
    limit: new RateLimit(clock, null),
    window: new Window(),
    pause: new Pause(false),
    trouble: () => {},
    freeBytes: async () => 2 ** 40,
    ...facts,
  }
}

/** One buffer for all chunks: it is what is counted, not the bytes. */
const shared = Buffer.alloc(chunk, 1)

const instant: BlockSource = {
  async *fetch(runs: readonly Run[]) {
    for (const { offset, length } of runs) yield { offset, length, bytes: shared.subarray(0, length) }
  },
}

describe('background copy', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()
  const never = new AbortController().signal

  it('gives back the memory of each piece that landed', async () => {
    const bodies: Buffer[] = []
    const source: BlockSource = {
      async *fetch(runs: readonly Run[]) {
        for (const { offset, length } of runs) {
          bodies.push(withOwnMemory(Buffer.alloc(length, 1)))
          yield { offset, length, bytes: bodies.at(-1)! }
        }
      },
    }
    const { disk } = await openDisk(source, { sizeBytes: 4 * chunk })
    await new BackgroundCopy(partsOf(disk, source), never).run()
    assert.deepEqual([bodies.length, bodies.filter(({ length }) => length > 0).length], [4, 0])
    const found = Buffer.alloc(disk.sizeBytes)
    await disk.arriving.read(0, found)
    assert(found.every((byte) => byte === 1))
  })

  it('ends when nothing is missing, and has brought every byte', async () => {
    const source = new ReadySource()
    const { disk } = await openDisk(source, { sizeBytes: 200 * block + 512 })
    await new BackgroundCopy(partsOf(disk, source), never).run()
    assert.equal(disk.arriving.missingBlocks, 0)
    const found = Buffer.alloc(disk.sizeBytes)
    await disk.arriving.read(0, found)
    assert(found.equals(Buffer.from(source.piece(0, disk.sizeBytes).bytes!)))
  })

  it('asks again where the source has holes when blocks turned out to be wrong', async () => {
    const source = new ReadySource()
    const { disk } = await openDisk(source, { sizeBytes: 4 * block })
    let data = false
    const extents = async (offset: number, length: number) => [{ offset, length, data }]
    const copy = new BackgroundCopy(partsOf(disk, source, { extents }), never)
    await copy.run()
    assert(disk.arriving.forget({ first: 0, end: 4 }))
    data = true
    await copy.run()
    const found = Buffer.alloc(disk.sizeBytes)
    await disk.arriving.read(0, found)
    assert(found.equals(Buffer.from(source.piece(0, disk.sizeBytes).bytes!)))
  })

  it('asks for nothing when nothing is missing', async () => {
    const source = new ReadySource()
    const { disk } = await openDisk(source)
    await disk.arriving.land(source.piece(0, disk.sizeBytes))
    await new BackgroundCopy(partsOf(disk, source), never).run()
    assert.deepEqual(source.fetches, [])
  })

  it('promise 8: asks only for what is missing', async () => {
    const source = new ReadySource()
    const { disk } = await openDisk(source)
    await disk.arriving.land(source.piece(10 * block, 20 * block))
    await new BackgroundCopy(partsOf(disk, source), never).run()
    assert.deepEqual(source.fetches.flat(), [
      { offset: 0, length: 10 * block },
      { offset: 30 * block, length: 34 * block },
    ])
  })

  it('promise 5: leaves what guests wrote alone', async () => {
    const source = new ReadySource(() => 1)
    const { disk } = await openDisk(source)
    await disk.open('guest').write(block, Buffer.alloc(2 * block, 9), false)
    await new BackgroundCopy(partsOf(disk, source), never).run()
    const found = Buffer.alloc(4 * block)
    await disk.arriving.read(0, found)
    assert(found.equals(Buffer.alloc(4 * block, 1).fill(9, block, 3 * block)))
  })

  it('holes come as metadata: the source is asked for no byte of them', async () => {
    const source = new ReadySource(() => 1)
    const { disk, landed } = await openDisk(source)
    const extents: Extent[] = [
      { offset: 0, length: 8 * block, data: false },
      { offset: 8 * block, length: 8 * block, data: true },
      { offset: 16 * block, length: 48 * block, data: false },
    ]
    const parts = partsOf(disk, source, {
      extents: async (offset) => extents.filter((extent) => extent.offset + extent.length > offset),
    })
    await new BackgroundCopy(parts, never).run()
    assert.deepEqual(source.fetches.flat(), [{ offset: 8 * block, length: 8 * block }])
    assert.equal(
      landed.reduce((sum, { bytes, kind }) => sum + (kind === 'hole' ? bytes : 0), 0),
      56 * block,
    )
    assert.equal(disk.arriving.missingBlocks, 0)
  })

  it('holes land a TiB at a time: of a disk of 1 PiB too they come to their end', async () => {
    const sizeBytes = 2 ** 50
    const here = new BlockMap(sizeBytes / block)
    const lands: number[] = []
    const arriving = {
      get missingBlocks() {
        return here.blocks - here.count
      },
      firstMissing: (from: number, limit: number) => here.firstRun(from, here.blocks, false, limit),
      land: async ({ offset, length }: Piece) => {
        lands.push(length)
        here.add(offset / block, (offset + length) / block)
      },
      unsettled: () => undefined,
    }
    const disk = { sizeBytes, arriving, isFailed: false } as unknown as Disk
    const extents = async (offset: number, length: number) => [{ offset, length, data: false }]
    assert.equal(await new BackgroundCopy(partsOf(disk, instant, { extents }), never).run(), true)
    assert.deepEqual([lands.length, here.count], [1024, here.blocks])
  })

  it('asks in chunks of 256 KiB, as many at once as the window lets it', async () => {
    const disk = new CountingDisk(16 * mebibyte)
    const asked: Run[] = []
    const answers = Promise.withResolvers<void>()
    const source: BlockSource = {
      async *fetch(runs) {
        asked.push(...runs)
        await answers.promise
        yield* instant.fetch(runs, { urgency: 'background', signal: never })
      },
    }
    const run = new BackgroundCopy(partsOf(disk as unknown as Disk, source), never).run()
    assert.equal(await isSettled(run), false)
    assert.deepEqual(
      asked,
      [0, 1, 2, 3].map((index) => ({ offset: index * chunk, length: chunk })),
    )
    answers.resolve()
    await run
  })

  it('tries again after a failure, says what it waits for, and says when that is over', async () => {
    const clock = new FakeClock()
    const source = new ReadySource()
    const { disk } = await openDisk(source)
    let failures = 3
    const failing: BlockSource = {
      async *fetch(runs) {
        if (failures-- > 0) throw new Error('the peer is confused')
        yield* source.fetch(runs)
      },
    }
    const troubles: (string | null)[] = []
    const parts = partsOf(disk, failing, { clock, trouble: (sentence) => void troubles.push(sentence) })
    const run = new BackgroundCopy(parts, never).run()
    while (!(await isSettled(run))) await clock.advance(1000)
    await run
    assert.equal(disk.arriving.missingBlocks, 0)
    assert.match(troubles[0]!, /the peer is confused/)
    assert.equal(troubles.at(-1), null)
  })

  it('a range that the source cannot read stops nothing but itself: it is named, tried again ever more rarely, and comes in the end', async () => {
    const clock = new FakeClock()
    const source = new ReadySource()
    const { disk } = await openDisk(source)
    const bad = { offset: 20 * block, length: 2 * block }
    const tries: number[] = []
    let isBad = true
    const failing: BlockSource = {
      async *fetch(runs) {
        for (const { offset, length } of runs) {
          const end = offset + length
          const isHit = isBad && offset < bad.offset + bad.length && bad.offset < end
          if (!isHit) yield source.piece(offset, length)
          else {
            tries.push(clock.now())
            if (offset < bad.offset) yield source.piece(offset, bad.offset - offset)
            throw new PeerRefusal('unreadable', 'the source cannot read it', bad)
          }
        }
      },
    }
    let seen: { sentence: string | null; unreadable: readonly Run[] } | undefined
    const trouble = (sentence: string | null, unreadable: readonly Run[]) => {
      seen = { sentence, unreadable }
    }
    const run = new BackgroundCopy(partsOf(disk, failing, { clock, trouble }), never).run()
    run.catch(() => {})
    await isSettled(run) // Real files: their turns are not the clock's.
    assert.equal(disk.arriving.missingBlocks, 2)
    assert.deepEqual(seen?.unreadable, [bad])
    assert.match(seen!.sentence!, /cannot read 8 KiB at 80 KiB.*not released/)
    for (let second = 0; second < 60; second++) {
      await clock.advance(1000)
      await isSettled(run)
    }
    assert.deepEqual(
      tries.slice(1).map((at, index) => Math.round((at - tries[index]!) / 1000)),
      [1, 2, 4, 8, 16],
    )
    isBad = false
    do await clock.advance(1000)
    while (!(await isSettled(run)))
    await run
    assert.deepEqual(seen, { sentence: null, unreadable: [] })
  })

  it('a disk that is full has nothing sent to it until there is room', async () => {
    const clock = new FakeClock()
    const source = new ReadySource()
    const { disk, files } = await openDisk(source)
    let free = 0
    files.fail('write', Object.assign(new Error('no space left on device'), { code: 'ENOSPC' }))
    const run = new BackgroundCopy(partsOf(disk, source, { clock, freeBytes: async () => free }), never).run()
    run.catch(() => {})
    for (let second = 0; second < 20; second++) {
      await isSettled(run)
      await clock.advance(1000)
    }
    const asked = source.fetches.length
    assert(asked <= 2, `${asked} fetches while the disk is full`)
    files.fail('write', undefined)
    free = 2 ** 30
    do await clock.advance(1000)
    while (!(await isSettled(run)))
    await run
    assert.equal(disk.arriving.missingBlocks, 0)
  })

  it('promise 10: fetches no more than 64 MiB over what the peer may have here, and goes on when it may have more', async () => {
    const clock = new FakeClock()
    const disk = new CountingDisk(256 * mebibyte)
    let most = 64 * mebibyte
    const notes: (string | null)[] = []
    const parts = partsOf(disk as unknown as Disk, instant, {
      clock,
      freeBytes: async () => most - disk.landedBytes,
      trouble: (sentence) => notes.push(sentence),
    })
    const run = new BackgroundCopy(parts, never).run()
    for (let second = 0; second < 20; second++) {
      await isSettled(run)
      await clock.advance(1000)
    }
    assert(disk.landedBytes <= most + 64 * mebibyte, `${disk.landedBytes} bytes`)
    assert.match(notes.at(-1) ?? '', /the destination has no room: .*all that it may have here/)
    most = 2 ** 40
    do await clock.advance(1000)
    while (!(await isSettled(run)))
    assert.equal(disk.landedBytes, 256 * mebibyte)
    assert.equal(notes.at(-1), null)
  })

  it('says that a trouble is over as soon as a MiB has landed, and not at the end of the pass', async () => {
    const clock = new FakeClock()
    const disk = new CountingDisk(64 * mebibyte)
    let isFull = true
    const source: BlockSource = {
      async *fetch(runs: readonly Run[]) {
        if (isFull) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
        yield* instant.fetch(runs, { urgency: 'background', signal: never })
      },
    }
    const told: { readonly sentence: string | null; readonly landedBytes: number }[] = []
    const trouble = (sentence: string | null) => told.push({ sentence, landedBytes: disk.landedBytes })
    const parts = partsOf(disk as unknown as Disk, source, { clock, trouble })
    const run = new BackgroundCopy(parts, never).run()
    await isSettled(run)
    assert.match(told[0]!.sentence!, /no room|waits/)
    isFull = false
    do await clock.advance(1000)
    while (!(await isSettled(run)))
    await run
    assert.deepEqual(told[1], { sentence: null, landedBytes: mebibyte })
  })

  it('does not try again in a busy loop', async () => {
    let asked = 0
    const source: BlockSource = {
      // biome-ignore lint/correctness/useYield: it never comes to that.
      async *fetch() {
        asked++
        throw new Error('the peer is confused')
      },
    }
    const stop = new AbortController()
    const disk = new CountingDisk(chunk) as unknown as Disk
    const run = new BackgroundCopy(partsOf(disk, source), stop.signal).run()
    assert.equal(await isSettled(run), false)
    assert.equal(asked, 1)
    stop.abort(new Error('stopped'))
    await assert.rejects(run, /stopped/)
  })

  it('ends with an error when the disk cannot be synced any more', async () => {
    const disk = new CountingDisk(mebibyte)
    disk.isFailed = true
    const source: BlockSource = {
      // biome-ignore lint/correctness/useYield: it never comes to that.
      async *fetch() {
        throw new Error('EIO')
      },
    }
    await assert.rejects(new BackgroundCopy(partsOf(disk as unknown as Disk, source), never).run(), /EIO/)
  })

  it('ends when it is told to, while it waits for the rate', async () => {
    const clock = new FakeClock()
    const stop = new AbortController()
    const disk = new CountingDisk(mebibyte) as unknown as Disk
    const run = new BackgroundCopy(
      partsOf(disk, instant, { clock, limit: new RateLimit(clock, 4096) }),
      stop.signal,
    ).run()
    await settled()
    stop.abort(new Error('stopped'))
    await assert.rejects(run, /stopped/)
  })

  it('starts nothing while it is paused, also when a chunk waits for the rate, and goes on where it was', async () => {
    const clock = new FakeClock()
    const disk = new CountingDisk(mebibyte)
    const pause = new Pause(false)
    const limit = new RateLimit(clock, chunk)
    const run = new BackgroundCopy(partsOf(disk as unknown as Disk, instant, { clock, limit, pause }), never).run()
    await clock.advance(1500)
    const before = disk.landedBytes
    assert(before > 0 && before < mebibyte)
    pause.set(true)
    await clock.advance(60_000)
    assert.equal(disk.landedBytes, before)
    pause.set(false)
    await clock.advance(60_000)
    await run
    assert.equal(disk.landedBytes, mebibyte)
  })

  it('keeps to the rate', async () => {
    const clock = new FakeClock()
    const disk = new CountingDisk(10 * mebibyte)
    const limit = new RateLimit(clock, mebibyte)
    const run = new BackgroundCopy(partsOf(disk as unknown as Disk, instant, { clock, limit }), never).run()
    await clock.advance(5000)
    assert(disk.landedBytes > 4 * mebibyte && disk.landedBytes < 6 * mebibyte, `${disk.landedBytes / mebibyte} MiB`)
    await clock.advance(6000)
    await run
  })

  it('zeros that stood in the file as data do not count for the rate', async () => {
    const clock = new FakeClock()
    const zeros: BlockSource = {
      async *fetch(runs: readonly Run[]) {
        for (const { offset, length } of runs) {
          yield { offset, length: block, bytes: shared.subarray(0, block) }
          yield { offset: offset + block, length: length - block, bytes: undefined }
        }
      },
    }
    const disk = new CountingDisk(64 * mebibyte)
    const limit = new RateLimit(clock, mebibyte)
    const run = new BackgroundCopy(partsOf(disk as unknown as Disk, zeros, { clock, limit }), never).run()
    await clock.advance(3000) // One mebibyte of data.
    assert.equal(await isSettled(run), true, `${disk.landedBytes} bytes of data have landed`)
    await run
  })

  describe('promise 8:', () => {
    it('stops landing while a slow sync keeps 48 MiB from being durable', async () => {
      const disk = new CountingDisk(200 * mebibyte)
      const sync = Promise.withResolvers<void>()
      disk.flushing = sync.promise
      const run = new BackgroundCopy(partsOf(disk as unknown as Disk, instant), never).run()
      assert.equal(await isSettled(run), false)
      assert(disk.mostUnsavedBytes > 40 * mebibyte, `${disk.mostUnsavedBytes / mebibyte} MiB`)
      assert(disk.mostUnsavedBytes <= 64 * mebibyte, `${disk.mostUnsavedBytes / mebibyte} MiB`)
      sync.resolve()
      await run
    })

    it('never has over 64 MiB landed and not durable, however many landings are under way at once', async () => {
      const disk = new CountingDisk(400 * mebibyte)
      // The window is wide open when the block file becomes slow: writes and syncs stand, then go on together.
      const stand = Promise.withResolvers<void>()
      const source: BlockSource = {
        async *fetch(runs) {
          if (disk.landing === undefined && disk.landedBytes > 150 * mebibyte) {
            disk.landing = stand.promise
            disk.flushing = new Promise(() => {})
          }
          yield* instant.fetch(runs, { urgency: 'background', signal: never })
        },
      }
      const stop = new AbortController()
      const run = new BackgroundCopy(partsOf(disk as unknown as Disk, source), stop.signal).run()
      run.catch(() => {})
      assert.equal(await isSettled(run), false)
      stand.resolve()
      for (let turn = 0; turn < 20; turn++) await settled()
      assert(disk.mostUnsavedBytes <= 64 * mebibyte, `${disk.mostUnsavedBytes / mebibyte} MiB`)
      stop.abort(new Error('the test is over'))
    })
  })
})
