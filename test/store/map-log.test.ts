import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import type { ArrivalMaps } from '../../src/store/arrival-maps.ts'
import { blockSizeBytes } from '../../src/store/block-map.ts'
import type { Files, LogFile } from '../../src/store/files.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { MapLog } from '../../src/store/map-log.ts'
import type { MapIdentity } from '../../src/store/map-log-format.ts'
import { type Random, seededRandom } from '../random.ts'
import { removeFoldersAfterEach, temporaryFolder } from './folder.ts'

const firstBoot = '11111111-1111-4111-8111-111111111111'
const secondBoot = '22222222-2222-4222-8222-222222222222'
const identity: MapIdentity = {
  diskId: '33333333-3333-4333-8333-333333333333',
  generation: 2,
  sizeBytes: 1000 * blockSizeBytes,
}
const headerBytes = 128
const recordBytes = 24
const nothing = async () => {}

/** What a log said, by replaying the calls that made it; records as they stand after each. */
interface Said {
  readonly present: Set<number>
  readonly written: Set<number>
  readonly partial: Map<number, number>
}

const saidNothing: Said = { present: new Set(), written: new Set(), partial: new Map() }

function saidBy(maps: ArrivalMaps, blocks = 1000): Said {
  const all = Array.from({ length: blocks }, (_, block) => block)
  return {
    present: new Set(all.filter((block) => maps.present.has(block))),
    written: new Set(all.filter((block) => maps.written.has(block))),
    partial: new Map([...maps.partial].sort(([a], [b]) => a - b)),
  }
}

describe('map log', () => {
  removeFoldersAfterEach()
  let path: string
  beforeEach(() => {
    path = join(temporaryFolder(), 'maps.log')
  })

  async function create(files: Files = new KernelFiles(firstBoot), of = identity): Promise<MapLog> {
    return (await MapLog.create(files, path, of)).log
  }

  async function believed(bootId: string, of = identity): Promise<Said> {
    const copy = join(temporaryFolder(), 'maps.log')
    copyFileSync(path, copy)
    const { log, maps } = await MapLog.open(new KernelFiles(bootId), copy, of, nothing)
    await log.close()
    return saidBy(maps)
  }

  async function believedBytes(bytes: Uint8Array, bootId: string): Promise<Said> {
    const { log, maps } = await MapLog.open(new BytesFiles(bootId, bytes), 'maps.log', identity, nothing)
    await log.close()
    return saidBy(maps)
  }

  /** Bytes may have reached the platter whose record did not: every present block counts as written. */
  const afterPowerLoss = (said: Said): Said => ({ ...said, written: new Set(said.present) })

  describe('under the same boot id', () => {
    it('promise 6: believes a landed and a written block that nobody synced', async () => {
      const log = await create()
      log.landed(10, 2)
      log.written(20, 1)
      await log.close()
      assert.deepEqual(await believed(firstBoot), {
        present: new Set([10, 11, 20]),
        written: new Set([20]),
        partial: new Map(),
      })
    })

    it('promise 6: believes the sectors of a partial block that nobody synced', async () => {
      const log = await create()
      log.partial(5, 0b0110)
      await log.close()
      assert.deepEqual((await believed(firstBoot)).partial, new Map([[5, 0b0110]]))
    })
  })

  describe('under another boot id', () => {
    it('promise 4: believes nothing that was not committed', async () => {
      const log = await create()
      log.landed(10, 2)
      log.written(20, 1)
      log.partial(5, 1)
      await log.close()
      assert.deepEqual(await believed(secondBoot), saidNothing)
    })

    it('believes what was committed', async () => {
      const log = await create()
      log.landed(10, 2)
      log.written(20, 1)
      log.partial(5, 1)
      await log.commit(log.position)
      await log.close()
      assert.deepEqual(await believed(secondBoot), {
        present: new Set([10, 11, 20]),
        written: new Set([10, 11, 20]), // Which of them the guest wrote is not known any more.
        partial: new Map([[5, 1]]),
      })
    })

    it('promise 4: does not believe a record that came between the position and the commit', async () => {
      const log = await create()
      log.landed(1, 1)
      const position = log.position
      log.landed(2, 1) // While the sync of block 1 runs.
      await log.commit(position)
      await log.close()
      assert.deepEqual((await believed(secondBoot)).present, new Set([1]))
    })

    it('does not believe what came after the last commit', async () => {
      const log = await create()
      log.landed(1, 1)
      await log.commit(log.position)
      log.landed(2, 1)
      await log.close()
      assert.deepEqual((await believed(secondBoot)).present, new Set([1]))
    })

    it('believes what a restart under the first boot id had found and synced', async () => {
      const first = await create()
      first.landed(7, 1)
      await first.close()
      const { log } = await MapLog.open(new KernelFiles(firstBoot), path, identity, nothing)
      await log.close()
      assert.deepEqual((await believed(secondBoot)).present, new Set([7]))
    })
  })

  it('promise 4: syncs the believed bytes before it says that they are durable', async () => {
    const log = await create()
    log.landed(7, 1)
    await log.close()
    const order: string[] = []
    const files = new RecordingFiles(new KernelFiles(firstBoot), order)
    const opened = await MapLog.open(files, path, identity, async () => {
      order.push('sync')
    })
    await opened.log.close()
    assert.deepEqual(order, ['sync', 'replaceLog'])
  })

  it('promise 4: names the blocks that no commit covers, whose bytes a failed sync may have dropped', async () => {
    const log = await create()
    log.landed(7, 1)
    await log.commit(log.position)
    log.landed(9, 2)
    log.written(20, 1)
    log.partial(30, 1)
    log.forgotten(7, 1)
    await log.close()
    const named = async (bootId: string) => {
      const runs: [number, number][] = []
      const copy = join(temporaryFolder(), 'maps.log')
      copyFileSync(path, copy)
      const opened = await MapLog.open(new KernelFiles(bootId), copy, identity, async (uncommitted) => {
        for (const { first, end } of uncommitted) runs.push([first, end])
      })
      await opened.log.close()
      return runs
    }
    const under = { same: await named(firstBoot), another: await named(secondBoot) }
    assert.deepEqual(under, {
      same: [
        [9, 11],
        [20, 21],
        [30, 31],
      ],
      another: [],
    })
  })

  it('leaves the old log as it was when the bytes cannot be synced', async () => {
    const log = await create()
    log.landed(7, 1)
    await log.close()
    const before = readFileSync(path)
    const failing = MapLog.open(new KernelFiles(firstBoot), path, identity, () => Promise.reject(new Error('EIO')))
    await assert.rejects(failing, /EIO/)
    assert(readFileSync(path).equals(before))
  })

  describe('commit', () => {
    it('appends nothing when nothing is new', async () => {
      const log = await create()
      log.landed(1, 1)
      await log.commit(log.position)
      const before = readFileSync(path).length
      await log.commit(log.position)
      await log.close()
      assert.equal(readFileSync(path).length, before)
    })

    it('leaves nothing uncommitted when nothing came meanwhile', async () => {
      const log = await create()
      log.landed(1, 1)
      assert.equal(log.hasUncommitted, true)
      await log.commit(log.position)
      assert.equal(log.hasUncommitted, false)
      await log.close()
    })

    it('leaves what came meanwhile uncommitted', async () => {
      const log = await create()
      log.landed(1, 1)
      const position = log.position
      log.landed(2, 1)
      await log.commit(position)
      assert.equal(log.hasUncommitted, true)
      await log.close()
    })

    it('whose sync failed covers nothing', async () => {
      const files = new FaultyFiles(new KernelFiles(firstBoot))
      const log = await create(files)
      log.landed(1, 1)
      files.syncError = new Error('EIO')
      await assert.rejects(log.commit(log.position), /EIO/)
      assert.equal(log.hasUncommitted, true)
      await log.close()
    })
  })

  describe('partial blocks', () => {
    it('merge their masks', async () => {
      const log = await create()
      log.partial(5, 0b0001)
      log.partial(5, 0b1000)
      await log.close()
      assert.deepEqual((await believed(firstBoot)).partial, new Map([[5, 0b1001]]))
    })

    it('become whole when the block landed or was written', async () => {
      const log = await create()
      log.partial(5, 0b0001)
      log.partial(6, 0b0001)
      log.landed(5, 1)
      log.written(6, 1)
      await log.close()
      assert.deepEqual(await believed(firstBoot), {
        present: new Set([5, 6]),
        written: new Set([5, 6]), // A part of block 5 is the guest's.
        partial: new Map(),
      })
    })

    it('stay whole when a mask follows', async () => {
      const log = await create()
      log.landed(5, 1)
      log.partial(5, 0b0001)
      await log.close()
      const { present, partial } = await believed(firstBoot)
      assert.deepEqual([present, partial], [new Set([5]), new Map()])
    })

    it('survive any number of restarts', async () => {
      const log = await create()
      log.partial(5, 0b0110)
      log.written(9, 3)
      log.landed(20, 1)
      await log.close()
      const before = await believed(firstBoot)
      for (let start = 0; start < 3; start++) {
        const opened = await MapLog.open(new KernelFiles(firstBoot), path, identity, nothing)
        await opened.log.close()
      }
      assert.deepEqual(await believed(secondBoot), afterPowerLoss(before))
    })

    it('are read back in a time that grows with the log, not with its square', async () => {
      // 30 000 partial blocks, then 30 000 others that landed: 9e8 steps if each record looked at each partial block.
      const count = 30_000
      const of = { ...identity, sizeBytes: 2 * count * blockSizeBytes }
      const files = new BytesFiles(firstBoot, undefined)
      const { log } = await MapLog.create(files, path, of)
      for (let block = 0; block < count; block++) log.partial(block, 1)
      for (let block = count; block < 2 * count; block++) log.landed(block, 1)
      const started = process.cpuUsage()
      await MapLog.open(files, path, of, nothing)
      const usedMs = process.cpuUsage(started).user / 1000
      assert(usedMs < 500, `opening took ${usedMs} ms of the processor`)
    })
  })

  it('holds runs over 2^31 blocks, through a snapshot', async () => {
    const blocks = 2 ** 31 + 70_000
    const of = { ...identity, sizeBytes: blocks * blockSizeBytes }
    const { log, maps } = await MapLog.create(new KernelFiles(firstBoot), path, of)
    log.landed(0, 2 ** 31)
    log.landed(2 ** 31, 69_999)
    await log.close()
    assert.equal(maps.present.count, 0)
    const first = await MapLog.open(new KernelFiles(firstBoot), path, of, nothing)
    await first.log.close()
    const second = await MapLog.open(new KernelFiles(secondBoot), path, of, nothing)
    await second.log.close()
    assert.equal(second.maps.present.count, blocks - 1)
    assert.equal(second.maps.present.has(blocks - 1), false)
  })

  it('keeps a run of the largest guest write, and one at the end of a disk of 16 TiB', async () => {
    const blocks = 2 ** 32
    const of = { ...identity, sizeBytes: blocks * blockSizeBytes }
    const { log } = await MapLog.create(new KernelFiles(firstBoot), path, of)
    log.written(0, 2 ** 20)
    log.landed(blocks - 3, 3)
    await log.close()
    const { log: again, maps } = await MapLog.open(new KernelFiles(firstBoot), path, of, nothing)
    await again.close()
    assert.deepEqual(
      [...maps.present.runs(0, blocks, true)],
      [
        { first: 0, end: 2 ** 20 },
        { first: blocks - 3, end: blocks },
      ],
    )
  })

  describe('of something else', () => {
    async function filled(): Promise<void> {
      const log = await create()
      log.landed(1, 5)
      await log.commit(log.position)
      await log.close()
    }

    it('is refused when it is of another disk', async () => {
      await filled()
      const other = { ...identity, diskId: '44444444-4444-4444-8444-444444444444' }
      await assert.rejects(believed(firstBoot, other), { name: 'StoreError', code: 'damaged' })
    })

    it('promise 4: is refused when it is of another generation, earlier or later', async () => {
      await filled()
      await assert.rejects(believed(firstBoot, { ...identity, generation: 3 }), { code: 'damaged' })
      await assert.rejects(believed(firstBoot, { ...identity, generation: 1 }), { code: 'damaged' })
    })

    it('is refused when it is of another size', async () => {
      await filled()
      await assert.rejects(believed(firstBoot, { ...identity, sizeBytes: identity.sizeBytes * 2 }), { code: 'damaged' })
    })

    it('promise 4: of records of an earlier log of the same disk nothing is believed', async () => {
      await filled()
      const old = readFileSync(path)
      const fresh = await create()
      await fresh.close()
      const spliced = Buffer.concat([readFileSync(path).subarray(0, headerBytes), old.subarray(headerBytes)])
      assert.deepEqual(await believedBytes(spliced, secondBoot), saidNothing)
    })

    it('promise 4: a missing log is refused: without it what the guest wrote is not known', async () => {
      const opening = MapLog.open(new KernelFiles(firstBoot), path, identity, nothing)
      await assert.rejects(opening, { name: 'StoreError', code: 'damaged' })
    })
  })

  describe('of a newer format', () => {
    function makeNewer(): Buffer {
      const bytes = readFileSync(path)
      bytes.writeUInt32LE(2, 8)
      bytes.writeUInt32LE(crc32(bytes.subarray(0, headerBytes - 4)), headerBytes - 4)
      writeFileSync(path, bytes)
      return bytes
    }

    it('is refused by name', async () => {
      await (await create()).close()
      makeNewer()
      const opening = MapLog.open(new KernelFiles(firstBoot), path, identity, nothing)
      await assert.rejects(opening, { name: 'StoreError', code: 'newer-format' })
    })

    it('is not touched', async () => {
      await (await create()).close()
      const bytes = makeNewer()
      await MapLog.open(new KernelFiles(firstBoot), path, identity, nothing).catch(() => {})
      assert(readFileSync(path).equals(bytes))
    })

    it('is refused even if its header has another layout behind the version', async () => {
      await (await create()).close()
      const bytes = makeNewer().fill(0xaa, 12, headerBytes)
      writeFileSync(path, bytes)
      const opening = MapLog.open(new KernelFiles(firstBoot), path, identity, nothing)
      await assert.rejects(opening, { code: 'newer-format' })
    })
  })

  describe('damaged', () => {
    /** A log of every kind of record, and what it said after each record. */
    async function history(random?: Random, steps = 12): Promise<{ bytes: Buffer; said: Said[]; committed: number[] }> {
      const log = await create()
      const said: Said[] = [saidNothing] // After the records that a fresh log starts with: its commit.
      const committed = [0]
      const note = (change: (now: Said) => void, covers = committed.at(-1)!) => {
        const now = structuredClone(said.at(-1)!)
        change(now)
        said.push(now)
        committed.push(covers)
      }
      for (let step = 0; step < steps; step++) {
        const kind = random ? random.integer(5) : step % 4
        const first = random ? random.integer(990) : step * 7
        const count = 1 + (random ? random.integer(9) : step % 3)
        const mask = 1 << (step % 8)
        if (kind === 0 || kind === 1) {
          if (kind === 0) log.landed(first, count)
          else log.written(first, count)
          note((now) => {
            for (let block = first; block < first + count; block++) {
              now.present.add(block)
              // The guest wrote a part of a partial block, whoever made it whole.
              if (now.partial.delete(block) || kind === 1) now.written.add(block)
            }
          })
        } else if (kind === 2 || kind === 4) {
          log.partial(first, mask)
          note((now) => {
            if (!now.present.has(first)) now.partial.set(first, (now.partial.get(first) ?? 0) | mask)
          })
        } else {
          const index = said.length - 1
          const before = readFileSync(path).length
          await log.commit(log.position)
          if (readFileSync(path).length > before) note(() => {}, index)
        }
      }
      await log.close()
      return { bytes: readFileSync(path), said, committed }
    }

    /** The number of records, after the first commit, that are whole in the first `length` bytes. */
    const wholeIn = (length: number) => Math.floor((length - headerBytes) / recordBytes) - 1

    type Outcome = Said | 'damaged'

    async function outcome(bytes: Uint8Array, bootId: string): Promise<Outcome> {
      try {
        return await believedBytes(bytes, bootId)
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'damaged', String(error))
        return 'damaged'
      }
    }

    /** The process died: nothing of the log was lost, so that a record which does not fit is damage. */
    function expectedOfSameBoot(torn: Buffer, bytes: Buffer, said: readonly Said[]): Outcome {
      const intact = firstDifference(torn, bytes)
      const wholeEnd = torn.length - ((torn.length - headerBytes) % recordBytes)
      if (torn.length < headerBytes || intact < wholeEnd) return 'damaged'
      return sorted(said[Math.max(0, wholeIn(torn.length))]!)
    }

    /** The power went: what was committed before the first record that does not fit. */
    function expectedOfOtherBoot(torn: Buffer, bytes: Buffer, said: readonly Said[], committed: number[]): Outcome {
      const intact = firstDifference(torn, bytes)
      if (intact < headerBytes) return 'damaged'
      return sorted(afterPowerLoss(said[committed[Math.max(0, wholeIn(intact))]!]!))
    }

    it('promise 6: cut at any byte, believes every whole record before the cut', async () => {
      const { bytes, said } = await history()
      for (let length = 0; length <= bytes.length; length++) {
        const torn = bytes.subarray(0, length)
        assert.deepEqual(await outcome(torn, firstBoot), expectedOfSameBoot(torn, bytes, said), `cut at ${length}`)
      }
    })

    it('promise 4: cut at any byte under another boot id, believes what a commit before the cut covers', async () => {
      const { bytes, said, committed } = await history()
      for (let length = 0; length <= bytes.length; length++) {
        const torn = bytes.subarray(0, length)
        const expected = expectedOfOtherBoot(torn, bytes, said, committed)
        assert.deepEqual(await outcome(torn, secondBoot), expected, `cut at ${length}`)
      }
    })

    it('promise 4: with zeros from any byte on, believes no record that they changed', async () => {
      const { bytes, said, committed } = await history()
      for (let from = 0; from <= bytes.length; from++) {
        const torn = Buffer.from(bytes).fill(0, from)
        const facts = `zeros from ${from}`
        assert.deepEqual(await outcome(torn, firstBoot), expectedOfSameBoot(torn, bytes, said), facts)
        assert.deepEqual(await outcome(torn, secondBoot), expectedOfOtherBoot(torn, bytes, said, committed), facts)
      }
    })

    it('promise 4: with any single bit flipped, believes no more than the commits before it', async () => {
      const { bytes, said, committed } = await history()
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        const flipped = Buffer.from(bytes)
        flipped[bit >> 3]! ^= 1 << (bit & 7)
        // A higher version is refused as such.
        if (bit >> 3 >= 8 && bit >> 3 < 12 && flipped.readUInt32LE(8) > 1) continue
        const expected = expectedOfOtherBoot(flipped, bytes, said, committed)
        assert.deepEqual(await outcome(flipped, secondBoot), expected, `bit ${bit}`)
        assert.equal(await outcome(flipped, firstBoot), 'damaged', `bit ${bit}`)
      }
    })

    it('promise 4: of random records, cut and damaged at random, never believes too much', async () => {
      const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31))
      const random = seededRandom(seed)
      for (let round = 0; round < 30; round++) {
        const { bytes, said, committed } = await history(random, 60)
        for (let damage = 0; damage < 20; damage++) {
          const torn = Buffer.from(bytes.subarray(0, random.integer(bytes.length + 1)))
          const from = headerBytes + random.integer(bytes.length - headerBytes)
          const length = 1 + random.integer(600)
          if (from < torn.length) {
            const value = random.pick([0, 0xff, random.integer(256)])
            torn.fill(value, from, Math.min(from + length, torn.length))
          }
          const facts = `seed ${seed} round ${round} damage ${damage}`
          assert.deepEqual(await outcome(torn, firstBoot), expectedOfSameBoot(torn, bytes, said), facts)
          assert.deepEqual(await outcome(torn, secondBoot), expectedOfOtherBoot(torn, bytes, said, committed), facts)
        }
      }
    })

    it('does not believe a record that was moved to another place in the log', async () => {
      const log = await create()
      log.landed(1, 1)
      log.landed(2, 1)
      await log.commit(log.position)
      await log.close()
      const bytes = readFileSync(path)
      const swapped = Buffer.from(bytes)
      bytes.copy(swapped, headerBytes + recordBytes, headerBytes + 2 * recordBytes, headerBytes + 3 * recordBytes)
      assert.deepEqual(await believedBytes(swapped, secondBoot), saidNothing)
    })

    it('is not touched', async () => {
      const log = await create()
      log.landed(1, 1)
      await log.close()
      const bytes = readFileSync(path).fill(0xff, headerBytes)
      writeFileSync(path, bytes)
      await MapLog.open(new KernelFiles(firstBoot), path, identity, nothing).catch(() => {})
      assert(readFileSync(path).equals(bytes))
    })

    it('in no way makes blocks present that the disk does not have', async () => {
      const log = await create()
      log.landed(identity.sizeBytes / blockSizeBytes - 1, 2) // A whole record that speaks of a block too many.
      log.landed(3, 1)
      await log.close()
      assert.deepEqual((await believed(firstBoot)).present, new Set([3]))
    })
  })

  describe('after an append that failed', () => {
    it('throws what the file threw, and counts nothing', async () => {
      const files = new FaultyFiles(new KernelFiles(firstBoot))
      const log = await create(files)
      const before = log.position
      files.appendError = Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' })
      assert.throws(() => log.landed(1, 1), { code: 'ENOSPC' })
      assert.equal(log.position, before)
      await log.close()
    })

    it('later records are believed, the failed one is not', async () => {
      const files = new FaultyFiles(new KernelFiles(firstBoot))
      const log = await create(files)
      log.landed(1, 1)
      files.appendError = new Error('ENOSPC')
      assert.throws(() => log.written(2, 1), /ENOSPC/)
      files.appendError = undefined
      log.landed(3, 1)
      await log.commit(log.position)
      await log.close()
      assert.deepEqual((await believed(firstBoot)).present, new Set([1, 3]))
      assert.deepEqual((await believed(secondBoot)).present, new Set([1, 3]))
    })
  })
})

function sorted(said: Said): Said {
  return { ...said, partial: new Map([...said.partial].sort(([a], [b]) => a - b)) }
}

function firstDifference(a: Buffer, b: Buffer): number {
  const shared = Math.min(a.length, b.length)
  for (let at = 0; at < shared; at++) if (a[at] !== b[at]) return at
  return shared
}

/** One file, in memory: thousands of logs are opened in these tests. */
class BytesFiles implements Files {
  readonly bootId: string
  #parts: Uint8Array[] | undefined

  constructor(bootId: string, bytes: Uint8Array | undefined) {
    this.bootId = bootId
    this.#parts = bytes && [bytes]
  }

  async readFile(): Promise<Uint8Array | undefined> {
    return this.#parts && Buffer.concat(this.#parts)
  }

  async replaceLog(_path: string, bytes: Uint8Array): Promise<LogFile> {
    const parts = [bytes]
    this.#parts = parts
    return { append: (more) => void parts.push(more), sync: nothing, close: nothing }
  }

  rename = () => assert.fail('a map log renames nothing')
  createBlockFile = () => assert.fail('a map log makes no block file')
  openBlockFile = () => assert.fail('a map log opens no block file')
  remove = nothing
}

/** Real files whose logs fail on demand. */
class FaultyFiles implements Files {
  readonly bootId: string
  readonly #files: Files
  appendError: Error | undefined
  syncError: Error | undefined

  constructor(files: Files) {
    this.bootId = files.bootId
    this.#files = files
  }

  async replaceLog(path: string, bytes: Uint8Array): Promise<LogFile> {
    const log = await this.#files.replaceLog(path, bytes)
    return {
      append: (more) => {
        if (this.appendError) throw this.appendError
        log.append(more)
      },
      sync: async () => {
        if (this.syncError) throw this.syncError
        await log.sync()
      },
      close: () => log.close(),
    }
  }

  readFile = (path: string) => this.#files.readFile(path)
  createBlockFile = (path: string, sizeBytes: number) => this.#files.createBlockFile(path, sizeBytes)
  openBlockFile = (path: string, readOnly: boolean) => this.#files.openBlockFile(path, readOnly)
  rename = (from: string, to: string) => this.#files.rename(from, to)
  remove = (path: string) => this.#files.remove(path)
}

class RecordingFiles extends FaultyFiles {
  readonly #order: string[]

  constructor(files: Files, order: string[]) {
    super(files)
    this.#order = order
  }

  override async replaceLog(path: string, bytes: Uint8Array): Promise<LogFile> {
    this.#order.push('replaceLog')
    return super.replaceLog(path, bytes)
  }
}
