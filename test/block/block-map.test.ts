import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { BlockMap } from '../../src/block/block-map.ts'
import { seededRandom } from '../random.ts'

describe('block map', () => {
  it('agrees with a plain set under random runs, across segment ends', () => {
    const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31))
    const random = seededRandom(seed)
    const blocks = 3 * 32768 + 77
    const map = new BlockMap(blocks)
    const plain = new Uint8Array(blocks)
    for (let step = 0; step < 400; step++) {
      const first = random.integer(blocks)
      const end = Math.min(blocks, first + 1 + random.integer(random.chance(0.2) ? blocks : 100))
      const value = random.chance(0.6)
      if (value) map.add(first, end)
      else map.delete(first, end)
      plain.fill(value ? 1 : 0, first, end)
      const from = random.integer(blocks)
      const to = Math.min(blocks, from + random.integer(70000))
      const slice = plain.subarray(from, to)
      const facts = `seed ${seed} step ${step}`
      assert.equal(
        map.count,
        plain.reduce((sum, bit) => sum + bit, 0),
        facts,
      )
      assert.equal(
        map.countIn(from, to),
        slice.reduce((sum, bit) => sum + bit, 0),
        facts,
      )
      assert.equal(
        map.hasAll(from, to),
        slice.every((bit) => bit === 1),
        facts,
      )
      assert.equal(
        map.hasNone(from, to),
        slice.every((bit) => bit === 0),
        facts,
      )
      for (const present of [true, false]) {
        const runs = [...map.runs(from, to, present)]
        const limit = 1 + random.integer(1000)
        const cut = runs[0] && { first: runs[0].first, end: Math.min(runs[0].end, runs[0].first + limit) }
        assert.deepEqual(map.firstRun(from, to, present, limit), cut, facts)
        const rebuilt = new Uint8Array(to - from).fill(present ? 0 : 1)
        for (const run of runs) rebuilt.fill(present ? 1 : 0, run.first - from, run.end - from)
        assert.deepEqual(rebuilt, new Uint8Array(slice), facts)
        for (let i = 1; i < runs.length; i++) assert(runs[i]!.first > runs[i - 1]!.end, `${facts}: runs are maximal`)
      }
      assert.equal(map.has(from), plain[from] === 1, facts)
    }
  })
})
