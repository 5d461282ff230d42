// What a site has already is not fetched: cells and blocks at the same place, cells elsewhere in a seed. What is used are bytes
// whose digest is the source's; what turned out to be wrong is fetched.

import assert from 'node:assert/strict'
import { randomFillSync } from 'node:crypto'
import { shortDigest } from '../../src/block/digest.ts'
import type { Piece, Run } from '../../src/block/units.ts'
import { LinkError, PeerRefusal } from '../../src/link/channel.ts'
import { cellBytes, type Seed } from '../../src/migration/copy/seed.ts'
import { groupBytes, SeededBlocks } from '../../src/migration/copy/seeded-blocks.ts'
import { FakeClock } from './fake-time.ts'

const block = 4096
const sizeBytes = 8 * 2 ** 20
const disk = { disk: 'web01', generation: 2 }
const signal = new AbortController().signal
const whole: Run = { offset: 0, length: sizeBytes }

const random = (lengthBytes = sizeBytes) => randomFillSync(Buffer.alloc(lengthBytes))

function seedOfBytes(bytes: Buffer, more: Partial<Seed> = {}): Seed {
  return {
    name: 'seed',
    isNamed: false,
    sizeBytes: bytes.length,
    read: (offset, target) => void target.set(bytes.subarray(offset, offset + target.length)),
    extents: (offset, length) => [{ offset, length, data: true }],
    close: async () => {},
    ...more,
  }
}

/** A source that has `bytes`, and counts what it is asked for. */
class Source {
  readonly bytes: Buffer
  fetchedBytes = 0
  readonly fetched: Run[] = []
  questions = 0
  digestCount = 0
  /** What it says of the digests. */
  failure: ((asked: readonly Run[]) => Error | undefined) | undefined
  lie: ((digest: string, at: number) => string) | undefined

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  async *blocks(_: unknown, runs: readonly Run[]): AsyncGenerator<Piece> {
    for (const { offset, length } of runs) {
      this.fetched.push({ offset, length })
      this.fetchedBytes += length
      yield { offset, length, bytes: Buffer.from(this.bytes.subarray(offset, offset + length)) }
    }
  }

  async digests(_: unknown, runs: readonly Run[], __: AbortSignal, stepBytes?: number): Promise<readonly string[]> {
    assert(stepBytes)
    this.questions++
    const failure = this.failure?.(runs)
    if (failure) throw failure
    const digests: string[] = []
    for (const { offset, length } of runs) {
      for (let at = offset; at < offset + length; at += stepBytes) {
        const digest = shortDigest(this.bytes.subarray(at, Math.min(offset + length, at + stepBytes)))
        digests.push(this.lie?.(digest, at) ?? digest)
      }
    }
    this.digestCount += digests.length
    return digests
  }
}

function seeded(source: Source, seeds: readonly Seed[], isFrozen = true): SeededBlocks {
  const clock = new FakeClock()
  return new SeededBlocks({
    source,
    clock,
    sizeBytes: source.bytes.length,
    seeds,
    isFrozen,
    isMissing: () => true,
    signal,
  })
}

/** What comes of runs: each byte once. */
async function fetchAll(blocks: SeededBlocks, lengthBytes: number, runs: readonly Run[] = [whole]): Promise<Buffer> {
  const target = Buffer.alloc(lengthBytes, 0xee)
  const came = Buffer.alloc(lengthBytes)
  for await (const { offset, length, bytes } of blocks.blocks(disk, runs, { urgency: 'background', signal })) {
    assert(
      came.subarray(offset, offset + length).every((count) => count === 0),
      `${offset} comes twice`,
    )
    came.fill(1, offset, offset + length)
    if (bytes) target.set(bytes, offset)
    else target.fill(0, offset, offset + length)
  }
  for (const { offset, length } of runs)
    assert(
      came.subarray(offset, offset + length).every((count) => count === 1),
      'all of it came',
    )
  return target
}

/** Runs in the order and the size in which the background copy asks for them. */
const chunks = (lengthBytes: number): Run[] =>
  Array.from({ length: lengthBytes / (256 * 1024) }, (_, index) => ({ offset: index * 256 * 1024, length: 256 * 1024 }))

describe('what is here already', () => {
  for (const isFrozen of [true, false]) {
    describe(isFrozen ? 'of a frozen disk' : 'of a disk that guests write to', () => {
      it('at the same place, is not fetched: only the blocks that differ are', async () => {
        const old = random()
        const source = new Source(Buffer.from(old))
        for (const at of [0, cellBytes + 5 * block, 3 * groupBytes - block]) randomFillSync(source.bytes, at, block)
        assert((await fetchAll(seeded(source, [seedOfBytes(old)], isFrozen), sizeBytes)).equals(source.bytes))
        assert.equal(source.fetchedBytes, 3 * block)
        assert.equal(source.digestCount, sizeBytes / cellBytes + 3 * (cellBytes / block))
      })
    })
  }

  it('of a frozen disk is asked for once a group, in whatever pieces it is fetched', async () => {
    const old = random()
    const source = new Source(Buffer.from(old))
    const blocks = seeded(source, [seedOfBytes(old)])
    for (const chunk of chunks(sizeBytes)) await fetchAll(blocks, sizeBytes, [chunk])
    assert.deepEqual([source.questions, source.fetchedBytes], [sizeBytes / groupBytes, 0])
  })

  it('of a disk that guests write to is asked for each time: an old answer says nothing of what is there now', async () => {
    const old = random()
    const source = new Source(Buffer.from(old))
    const blocks = seeded(source, [seedOfBytes(old, { sizeBytes: cellBytes })], false)
    const [run] = [{ offset: 0, length: cellBytes }]
    await fetchAll(blocks, sizeBytes, [{ offset: cellBytes, length: cellBytes }])
    randomFillSync(source.bytes, 0, cellBytes)
    assert(
      (await fetchAll(blocks, sizeBytes, [run])).subarray(0, cellBytes).equals(source.bytes.subarray(0, cellBytes)),
    )
  })

  it('elsewhere in a seed, by its content, is not fetched', async () => {
    const old = random()
    const source = new Source(Buffer.concat([random(5 * cellBytes), old.subarray(0, sizeBytes - 5 * cellBytes)]))
    const blocks = seeded(source, [seedOfBytes(old, { isNamed: true })])
    assert((await fetchAll(blocks, sizeBytes)).equals(source.bytes))
    assert.equal(source.fetchedBytes, 5 * cellBytes)
  })

  it('as zeros, comes as zeros, without bytes', async () => {
    const old = random()
    old.fill(0, cellBytes, 3 * cellBytes)
    const source = new Source(Buffer.from(old))
    const pieces: Piece[] = []
    const blocks = seeded(source, [seedOfBytes(old)])
    for await (const piece of blocks.blocks(disk, [whole], { urgency: 'background', signal })) pieces.push(piece)
    const zeros = pieces.filter(({ bytes }) => bytes === undefined)
    assert.equal(
      zeros.reduce((sum, { length }) => sum + length, 0),
      2 * cellBytes,
    )
    assert(pieces.every(({ isSpared }) => isSpared))
  })

  it('is of another size than the disk: what lies beyond it, and the short end, are fetched or found as any', async () => {
    const old = random(sizeBytes - 3 * block)
    const source = new Source(Buffer.concat([old, random(2 * block + 512)]))
    const run = { offset: 0, length: source.bytes.length }
    const blocks = seeded(source, [seedOfBytes(old)])
    assert((await fetchAll(blocks, source.bytes.length, [run])).equals(source.bytes))
    const same = new Source(source.bytes)
    assert((await fetchAll(seeded(same, [seedOfBytes(source.bytes)]), run.length, [run])).equals(source.bytes))
    assert.equal(same.fetchedBytes, 0)
  })

  it('a hole of a seed, and a range of it that cannot be read, are not asked about, and are fetched', async () => {
    const old = random()
    const source = new Source(Buffer.from(old))
    const bad = seedOfBytes(old, {
      extents: (offset, length) => [{ offset, length, data: offset >= groupBytes }],
      read: (offset, target) => {
        if (offset >= 2 * groupBytes) throw new Error('EIO')
        target.set(old.subarray(offset, offset + target.length))
      },
    })
    assert((await fetchAll(seeded(source, [bad]), sizeBytes)).equals(source.bytes))
    assert.equal(source.fetchedBytes, sizeBytes - groupBytes)
    assert.equal(source.digestCount, (sizeBytes - groupBytes) / cellBytes)
  })

  it('is not looked for when a guest waits', async () => {
    const old = random()
    const source = new Source(Buffer.from(old))
    const blocks = seeded(source, [seedOfBytes(old)]).blocks(disk, [whole], { urgency: 'demand', signal })
    for await (const piece of blocks) assert(!piece.isSpared)
    assert.deepEqual([source.questions, source.fetchedBytes], [0, sizeBytes])
  })

  it('is asked for no more where it does not pay', async () => {
    const large = 512 * 2 ** 20
    const source = new Source(random(2 * 2 ** 20))
    const fetched = { bytes: 0 }
    const another = shortDigest(random(block))
    const endless = {
      digests: async (_: unknown, runs: readonly Run[], __: AbortSignal, stepBytes = 1) => {
        source.questions++
        return runs.flatMap(({ length }) => Array.from({ length: length / stepBytes }, () => another))
      },
      async *blocks(_: unknown, runs: readonly Run[]): AsyncGenerator<Piece> {
        for (const { offset, length } of runs) {
          fetched.bytes += length
          yield { offset, length, bytes: undefined }
        }
      },
    }
    const seed = seedOfBytes(source.bytes, { sizeBytes: large, read: () => {} })
    const clock = new FakeClock()
    const parts = { clock, sizeBytes: large, seeds: [seed], isFrozen: false, isMissing: () => true, signal }
    const blocks = new SeededBlocks({ ...parts, source: endless })
    for (const run of chunks(large))
      for await (const _ of blocks.blocks(disk, [run], { urgency: 'background', signal }));
    assert.equal(fetched.bytes, large)
    assert(source.questions < large / (256 * 1024) / 4, `${source.questions} questions`)
  })

  it('promise 8: that changes after it was hashed is never used as what it was: what is hashed is what comes', async () => {
    const old = random()
    const source = new Source(Buffer.from(old))
    const changing = seedOfBytes(old, {
      read: (offset, target) => {
        target.set(old.subarray(offset, offset + target.length))
        old.fill(0xaa, offset, offset + target.length) // A guest writes there at once.
      },
    })
    assert((await fetchAll(seeded(source, [changing]), sizeBytes)).equals(source.bytes))
  })

  it('promise 8: under a damaged digest comes once, and is fetched when it is asked for again', async () => {
    const old = random()
    const source = new Source(random())
    // It is said of every cell that it is what stands here.
    source.lie = (digest, at) => (at % cellBytes === 0 ? shortDigest(old.subarray(at, at + cellBytes)) : digest)
    const blocks = seeded(source, [seedOfBytes(old)])
    assert((await fetchAll(blocks, sizeBytes)).equals(old), 'nobody could know')
    assert((await fetchAll(blocks, sizeBytes)).equals(source.bytes), 'the comparison found it')
  })

  it('is waited for no longer than whoever asked wants it, and holes of gigabytes are one fetch', async () => {
    const source = new Source(random())
    const over = new AbortController()
    const seed = seedOfBytes(random())
    const clock = new FakeClock()
    const silent = { blocks: () => source.blocks(0, []), digests: () => new Promise<never>(() => {}) }
    const parts = { clock, sizeBytes, seeds: [seed], isFrozen: true, isMissing: () => true, signal }
    const asking = new SeededBlocks({ ...parts, source: silent })
    const coming = asking.blocks(disk, [whole], { urgency: 'background', signal: over.signal }).next()
    over.abort(new Error('the site is stopping'))
    await assert.rejects(coming, /the site is stopping/)

    const hole = seedOfBytes(Buffer.alloc(0), {
      sizeBytes: 2 ** 40,
      extents: (offset, length) => [{ offset, length, data: false }],
    })
    const fetched: Run[][] = []
    const holes = {
      digests: () => assert.fail('nothing is asked'),
      async *blocks(_: unknown, runs: readonly Run[]): AsyncGenerator<Piece> {
        fetched.push([...runs])
        for (const run of runs) yield { ...run, bytes: undefined, hole: true }
      },
    }
    const thin = new SeededBlocks({ ...parts, sizeBytes: 2 ** 40, seeds: [hole], source: holes })
    const run = { offset: 2 ** 32, length: 2 ** 30 }
    for await (const _ of thin.blocks(disk, [run, { offset: 2 ** 34, length: block }], {
      urgency: 'background',
      signal,
    }));
    assert.deepEqual(fetched, [[run, { offset: 2 ** 34, length: block }]])
  })

  it('is fetched where the source refuses to say; a link that breaks is the caller’s to mend', async () => {
    const old = random()
    const source = new Source(Buffer.from(old))
    source.failure = () => new PeerRefusal('internal', 'a range cannot be read')
    assert((await fetchAll(seeded(source, [seedOfBytes(old)]), sizeBytes)).equals(source.bytes))
    assert.equal(source.fetchedBytes, sizeBytes)

    let failures = 1
    source.failure = () => (failures-- > 0 ? new LinkError('lost', 'cut') : undefined)
    const blocks = seeded(source, [seedOfBytes(old)])
    await assert.rejects(fetchAll(blocks, sizeBytes), { code: 'lost' })
    source.fetchedBytes = 0
    assert((await fetchAll(blocks, sizeBytes)).equals(source.bytes))
    assert.equal(source.fetchedBytes, 0, 'asked again')
  })
})
