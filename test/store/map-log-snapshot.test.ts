// What a map log begins with, where a map is in disorder.

import assert from 'node:assert/strict'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { BlockMap, blockSizeBytes, segmentBlocks } from '../../src/block/block-map.ts'
import { ArrivalMaps } from '../../src/store/arrival-maps.ts'
import { KernelFiles } from '../../src/store/kernel-files.ts'
import { MapLog } from '../../src/store/map-log.ts'
import type { MapIdentity } from '../../src/store/map-log-format.ts'
import { seededRandom } from '../random.ts'
import { removeFoldersAfterEach, temporaryFolder } from './folder.ts'
import { believedBytes, firstBoot, identity, nothing, saidBy, secondBoot } from './map-logs.ts'

const versionAt = 8

describe('a map log that begins with a map in disorder', () => {
  removeFoldersAfterEach()
  let path: string
  beforeEach(() => {
    path = join(temporaryFolder(), 'maps.log')
  })

  const ofBlocks = (blocks: number): MapIdentity => ({ ...identity, sizeBytes: blocks * blockSizeBytes })

  async function made(of: MapIdentity, maps: ArrivalMaps): Promise<MapLog> {
    return (await MapLog.create(new KernelFiles(firstBoot), path, of, maps)).log
  }

  /** Every other block of 1000 is here, every fourth was written. */
  function disordered(): ArrivalMaps {
    const maps = new ArrivalMaps(identity.sizeBytes)
    for (let at = 0; at < 1000; at += 2) maps.present.add(at, at + 1)
    for (let at = 0; at < 1000; at += 4) maps.written.add(at, at + 1)
    return maps
  }

  const sameMaps = (one: BlockMap, other: BlockMap) => {
    for (let index = 0; index < one.segmentCount; index++)
      assert.deepEqual(one.segmentAt(index), other.segmentAt(index), `segment ${index}`)
    assert.equal(one.count, other.count)
  }

  it('says nothing of blocks behind the end of the disk', async () => {
    const maps = new ArrivalMaps(identity.sizeBytes)
    maps.present.add(0, 1000)
    for (let at = 0; at < 1000; at += 2) maps.present.delete(at, at + 1)
    await (await made(identity, maps)).close()
    const { log, maps: read } = await MapLog.open(new KernelFiles(firstBoot), path, identity, nothing)
    await log.close()
    sameMaps(read.present, maps.present)
  })

  it('says what it was made with, whatever is alike, in runs, or in disorder, under any boot id', async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = seededRandom(seed)
      const blocks = 7 * segmentBlocks + random.integer(segmentBlocks) + 1
      const of = ofBlocks(blocks)
      const maps = new ArrivalMaps(of.sizeBytes)
      for (let first = 0; first < blocks; first += segmentBlocks) {
        const end = Math.min(blocks, first + segmentBlocks)
        const kind = random.integer(4)
        if (kind === 1) maps.present.add(first, end)
        for (let runs = kind === 2 ? 20 : kind === 3 ? 4000 : 0; runs > 0; runs--) {
          const at = first + random.integer(end - first)
          maps.present.add(at, Math.min(end, at + 1 + random.integer(3)))
        }
      }
      for (const { first } of [...maps.present.runs(0, blocks, true)].slice(0, 3000)) maps.written.add(first, first + 1)
      await (await made(of, maps)).close()
      for (const boot of [firstBoot, secondBoot]) {
        const opened = await MapLog.open(new KernelFiles(boot), path, of, nothing)
        await opened.log.close()
        sameMaps(opened.maps.present, maps.present)
        sameMaps(opened.maps.written, boot === firstBoot ? maps.written : maps.present)
      }
    }
  })

  it('takes about a bit a block, and is made and read in a step for each segment', async () => {
    const of = ofBlocks(64 * segmentBlocks)
    const maps = new ArrivalMaps(of.sizeBytes)
    for (let index = 0; index < 64; index++) maps.present.putSegment(index, new Uint8Array(4096).fill(0x55))
    await (await made(of, maps)).close()
    assert(statSync(path).size < 64 * 4200 + 1000, `${statSync(path).size} bytes`)
    const { log, maps: read } = await MapLog.open(new KernelFiles(firstBoot), path, of, nothing)
    await log.close()
    sameMaps(read.present, maps.present)
  })

  it('goes on with records as any other, over any number of restarts', async () => {
    const maps = disordered()
    const log = await made(identity, maps)
    log.landed(1, 2)
    log.partial(5, 0b1)
    log.forgotten(8, 1)
    await log.close()
    maps.present.add(1, 3)
    maps.present.delete(8, 9)
    maps.partial.set(5, 1)
    for (let count = 0; count < 3; count++) {
      const again = await MapLog.open(new KernelFiles(firstBoot), path, identity, nothing)
      assert.deepEqual(saidBy(again.maps), saidBy(maps))
      await again.log.close()
    }
  })

  it('promise 4: cut at any byte, or with any of its bits flipped, is refused', async () => {
    await (await made(identity, disordered())).close()
    const bytes = readFileSync(path)
    for (const boot of [firstBoot, secondBoot]) {
      for (let at = 128; at < bytes.length - 1; at += 7)
        await assert.rejects(believedBytes(bytes.subarray(0, at), boot), { code: 'damaged' }, `cut at ${at}`)
      // Behind the bits of a page are zeros that fill its place: these say nothing.
      for (let at = 128; at < 128 + 24 + 4096; at += 5) {
        const flipped = Buffer.from(bytes)
        flipped[at]! ^= 1 << (at % 8)
        await assert.rejects(believedBytes(flipped, boot), { code: 'damaged' }, `flipped at ${at}`)
      }
    }
  })

  it('has a format that an older vmstore refuses; without disorder it has not', async () => {
    await (await made(identity, disordered())).close()
    assert.equal(readFileSync(path).readUInt32LE(versionAt), 2)
    const { log } = await MapLog.create(new KernelFiles(firstBoot), path, identity)
    await log.close()
    assert.equal(readFileSync(path).readUInt32LE(versionAt), 1)
  })
})

describe('a set of blocks without those of another', () => {
  it('is what is left, whatever is alike or in disorder in either', () => {
    for (let seed = 1; seed <= 40; seed++) {
      const random = seededRandom(seed)
      const blocks = 3 * segmentBlocks + 1 + random.integer(segmentBlocks)
      const some = () => {
        const map = new BlockMap(blocks)
        if (random.integer(2) === 0) map.add(0, random.pick([blocks, random.integer(blocks) + 1]))
        for (let count = random.integer(3) * 300; count > 0; count--) {
          const first = random.integer(blocks)
          const end = Math.min(blocks, first + 1 + random.integer(100))
          if (random.integer(3) === 0) map.delete(first, end)
          else map.add(first, end)
        }
        return map
      }
      const [one, other] = [some(), some()]
      const expected = one.copy()
      for (const { first, end } of other.runs(0, blocks, true)) expected.delete(first, end)
      one.subtract(other)
      assert.deepEqual([...one.runs(0, blocks, true)], [...expected.runs(0, blocks, true)])
      assert.equal(one.count, expected.count)
    }
  })
})
