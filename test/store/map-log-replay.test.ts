import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { blockSizeBytes } from '../../src/block/block-map.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { MapLog } from '../../src/store/map-log.ts'
import { type Random, seededRandom } from '../random.ts'
import { removeFoldersAfterEach, temporaryFolder } from './folder.ts'
import {
  afterPowerLoss,
  believed,
  believedBytes,
  firstBoot,
  identity,
  nothing,
  type Said,
  saidNothing,
  secondBoot,
} from './map-logs.ts'

/** As logs of today are laid out on disk, whatever the source says later. */
const headerBytes = 128
const recordBytes = 24

describe('a map log', () => {
  removeFoldersAfterEach()
  let path: string
  beforeEach(() => {
    path = join(temporaryFolder(), 'maps.log')
  })

  async function create(of = identity): Promise<MapLog> {
    return (await MapLog.create(new KernelFiles(firstBoot), path, of)).log
  }

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
      await assert.rejects(believed(path, firstBoot, other), { name: 'StoreError', code: 'damaged' })
    })

    it('promise 4: is refused when it is of another generation, earlier or later', async () => {
      await filled()
      await assert.rejects(believed(path, firstBoot, { ...identity, generation: 3 }), { code: 'damaged' })
      await assert.rejects(believed(path, firstBoot, { ...identity, generation: 1 }), { code: 'damaged' })
    })

    it('is refused when it is of another size', async () => {
      await filled()
      await assert.rejects(believed(path, firstBoot, { ...identity, sizeBytes: identity.sizeBytes * 2 }), {
        code: 'damaged',
      })
    })

    it('promise 4: of records of an earlier log of the same disk nothing is believed: it is refused', async () => {
      await filled()
      const old = readFileSync(path)
      const fresh = await create()
      await fresh.close()
      const spliced = Buffer.concat([readFileSync(path).subarray(0, headerBytes), old.subarray(headerBytes)])
      await assert.rejects(believedBytes(spliced, secondBoot), { code: 'damaged' })
    })

    it('promise 4: a missing log is refused: without it what the guest wrote is not known', async () => {
      const opening = MapLog.open(new KernelFiles(firstBoot), path, identity, nothing)
      await assert.rejects(opening, { name: 'StoreError', code: 'damaged' })
    })
  })

  describe('of a newer format', () => {
    function makeNewer(): Buffer {
      const bytes = readFileSync(path)
      bytes.writeUInt32LE(3, 8)
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

    /** The process died: nothing of the log was lost, so that a record which does not fit, or a log without its first, is damage. */
    function expectedOfSameBoot(torn: Buffer, bytes: Buffer, said: readonly Said[]): Outcome {
      const intact = firstDifference(torn, bytes)
      const wholeEnd = torn.length - ((torn.length - headerBytes) % recordBytes)
      if (wholeIn(torn.length) < 0 || intact < wholeEnd) return 'damaged'
      return sorted(said[Math.max(0, wholeIn(torn.length))]!)
    }

    /**
     * The power went: what was committed before the first record that does not fit; unless that record was durable once,
     * because it is the one that the log was made with, or because two commits stand behind it.
     */
    function expectedOfOtherBoot(torn: Buffer, bytes: Buffer, said: readonly Said[], committed: number[]): Outcome {
      const intact = firstDifference(torn, bytes)
      if (wholeIn(intact) < 0) return 'damaged'
      const isThere = (record: number) => {
        const [from, to] = [headerBytes + record * recordBytes, headerBytes + (record + 1) * recordBytes]
        return to <= torn.length && torn.subarray(from, to).equals(bytes.subarray(from, to))
      }
      const commits = committed.flatMap((covers, record) =>
        covers !== committed[record - 1] && record > 0 ? [record] : [],
      )
      if (commits.filter((record) => record > wholeIn(intact) + 1 && isThere(record)).length >= 2) return 'damaged'
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

    it('promise 4: shorter than the records of the site know it to have been durable, is refused, under any boot id', async () => {
      const log = await create()
      log.written(1, 5)
      await log.commit(log.position)
      const { mark } = log
      log.written(7, 1)
      await log.close()
      const bytes = readFileSync(path)
      const durable = headerBytes + mark.records * recordBytes
      for (let length = headerBytes; length <= bytes.length; length++) {
        const expected = length < durable ? 'damaged' : 'believed'
        for (const bootId of [firstBoot, secondBoot]) {
          const found = believedBytes(bytes.subarray(0, length), bootId, mark)
          const told = await found.then(
            ({ present }) => (present.has(5) ? 'believed' : 'lost'),
            ({ code }: { code: string }) => code,
          )
          assert.equal(told, expected, `cut at ${length}`)
        }
      }
    })

    it('promise 4: with a broken record that the records of the site know to have been durable, is refused', async () => {
      const log = await create()
      log.written(1, 5)
      await log.commit(log.position)
      await log.close()
      const bytes = readFileSync(path)
      for (let bit = headerBytes * 8; bit < bytes.length * 8; bit++) {
        const flipped = Buffer.from(bytes)
        flipped[bit >> 3]! ^= 1 << (bit & 7)
        await assert.rejects(believedBytes(flipped, secondBoot, log.mark), { code: 'damaged' }, `bit ${bit}`)
      }
    })

    it('a mark of another log says nothing of this one', async () => {
      const log = await create()
      await log.close()
      const mark = { key: log.mark.key + 1, records: 1000 }
      assert.deepEqual(await believedBytes(readFileSync(path), secondBoot, mark), saidNothing)
    })

    it('of a vmstore that did not say how long it was at first, is believed as before', async () => {
      const log = await create()
      log.landed(1, 1)
      await log.commit(log.position)
      await log.close()
      const old = Buffer.from(readFileSync(path))
      old.writeUInt32LE(0, 108)
      old.writeUInt32LE(crc32(old.subarray(0, headerBytes - 4)), headerBytes - 4)
      assert.deepEqual((await believedBytes(old, secondBoot)).present, new Set([1]))
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
      assert.deepEqual((await believed(path, firstBoot)).present, new Set([3]))
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
