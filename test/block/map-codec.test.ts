import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { BlockMap, segmentBlocks } from '../../src/block/block-map.ts'
import { encodeMap, encodeMaps, longestMapBytes, MapReader } from '../../src/block/map-codec.ts'
import { type Random, seededRandom } from '../random.ts'

const runsOf = (map: BlockMap) => [...map.runs(0, map.blocks, true)]

function randomMap(random: Random): BlockMap {
  const map = new BlockMap(1 + random.integer(4 * segmentBlocks))
  for (let left = random.integer(3) * random.integer(3000); left > 0; left--) {
    const first = random.integer(map.blocks)
    const end = Math.min(map.blocks, first + 1 + random.integer(random.chance(0.02) ? 2 * segmentBlocks : 9))
    if (random.chance(0.6)) map.add(first, end)
    else map.delete(first, end)
  }
  return map
}

/** In pieces of other lengths than those in which it was made. */
function* cut(parts: Iterable<Uint8Array>, random: Random): Generator<Uint8Array> {
  const whole = Buffer.concat([...parts])
  for (let at = 0; at < whole.length; ) {
    const length = 1 + random.integer(9000)
    yield whole.subarray(at, at + length)
    at += length
  }
}

describe('a map of blocks as bytes', () => {
  it('is read as it was, however it is cut, and several one after the other', async () => {
    const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31))
    const random = seededRandom(seed)
    for (let round = 0; round < 60; round++) {
      const maps = [randomMap(random), randomMap(random)]
      const reader = new MapReader(cut(encodeMaps(maps), random))
      for (const map of maps) {
        const read = await reader.next(map.blocks)
        assert.deepEqual(runsOf(read), runsOf(map), `seed ${seed} round ${round}`)
        assert.equal(read.count, map.count)
        assert(Buffer.concat([...encodeMap(map)]).length <= longestMapBytes(map.blocks))
      }
      await reader.end()
    }
  })

  it('is read as it was where the last segment, a short one, was full once and is in disorder now', async () => {
    const map = new BlockMap(segmentBlocks + 20_000)
    map.add(0, map.blocks)
    for (let at = 1; at < map.blocks; at += 2) map.delete(at, at + 1)
    const read = await new MapReader(encodeMap(map)).next(map.blocks)
    assert.deepEqual(runsOf(read), runsOf(map))
  })

  it('costs next to nothing where it is alike, and a bit a block where it is not', () => {
    const map = new BlockMap(2 ** 28) // 1 TiB
    map.add(5, 2 ** 28 - 5)
    const lengthOf = () => [...encodeMap(map)].reduce((sum, { length }) => sum + length, 0)
    assert(lengthOf() < 64 * 1024)
    for (let block = 0; block < 40 * segmentBlocks; block += 2) map.delete(block, block + 1)
    assert(lengthOf() < 64 * 1024 + 40 * 4200)
  })

  it('promise 11: that is none is refused', async () => {
    const read = async (bytes: number[], blocks = 100) => {
      const reader = new MapReader([Uint8Array.from(bytes)])
      await reader.next(blocks)
      await reader.end()
    }
    const end = [255, 255, 255, 255]
    const runs = (...edges: number[]) => [0, 0, 0, 0, 2, 0, edges.length / 2, ...edges.flatMap((edge) => [0, edge])]
    await read([...runs(1, 2, 3, 3), ...end])
    const wrong: Record<string, number[]> = {
      'too short': runs(1, 2),
      'bytes behind': [...end, 0],
      'a segment behind the end': [0, 0, 0, 1, 0, ...end],
      'a segment twice': [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...end],
      'an unknown kind': [0, 0, 0, 0, 3, ...end],
      'a run behind the end': [...runs(1, 100), ...end],
      'a run backwards': [...runs(2, 1), ...end],
      'runs that overlap': [...runs(1, 2, 2, 3), ...end],
      'a bit behind the end': [0, 0, 0, 0, 1, ...new Array<number>(4096).fill(255), ...end],
    }
    for (const [what, bytes] of Object.entries(wrong)) await assert.rejects(read(bytes), RangeError, what)
  })

  it('a copy has the same blocks, and is changed alone', () => {
    const map = new BlockMap(3 * segmentBlocks)
    map.add(10, segmentBlocks + 10)
    const copy = map.copy()
    copy.delete(20, 30)
    map.add(0, 5)
    assert.deepEqual([runsOf(map).length, map.count, copy.count], [2, segmentBlocks + 5, segmentBlocks - 10])
    assert(copy.has(19) && !copy.has(20) && !copy.has(0) && map.has(25))
  })
})
