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

  it('agrees with a plain list of runs over the ends of groups, of a disk of many', () => {
    const group = 1024 * 32768
    const blocks = 3 * group + 5 * 32768 + 7
    const map = new BlockMap(blocks)
    const edges = [
      0,
      1,
      32768,
      group - 1,
      group,
      group + 1,
      2 * group - 32768,
      2 * group,
      3 * group,
      blocks - 1,
      blocks,
    ]
    let runs: { first: number; end: number }[] = []
    const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31))
    const random = seededRandom(seed)
    for (let step = 0; step < 200; step++) {
      const [first, end] = [random.pick(edges), random.pick(edges)].toSorted((a, b) => a - b) as [number, number]
      const value = random.chance(0.5)
      runs = runs.flatMap((run) => [
        ...(run.first < first ? [{ first: run.first, end: Math.min(run.end, first) }] : []),
        ...(run.end > end ? [{ first: Math.max(run.first, end), end: run.end }] : []),
      ])
      if (value && first < end) runs.push({ first, end })
      if (value) map.add(first, end)
      else map.delete(first, end)
      const merged: { first: number; end: number }[] = []
      for (const run of runs.toSorted((a, b) => a.first - b.first)) {
        const last = merged.at(-1)
        if (last?.end === run.first) last.end = run.end
        else merged.push({ ...run })
      }
      const facts = `seed ${seed} step ${step}`
      assert.deepEqual([...map.runs(0, blocks, true)], merged, facts)
      const countIn = (from: number, to: number) =>
        merged.reduce((sum, run) => sum + Math.max(0, Math.min(run.end, to) - Math.max(run.first, from)), 0)
      assert.equal(map.count, countIn(0, blocks), facts)
      const [from, to] = [random.pick(edges), random.pick(edges)].toSorted((a, b) => a - b) as [number, number]
      assert.equal(map.countIn(from, to), countIn(from, to), facts)
      assert.equal(map.hasAll(from, to), countIn(from, to) === to - from, facts)
      assert.equal(map.hasNone(from, to), countIn(from, to) === 0, facts)
      for (const block of edges.slice(0, -1)) assert.equal(map.has(block), countIn(block, block + 1) === 1, facts)
    }
  })

  it('takes memory for what is mixed, and not for the size: of 1 PiB of which nothing is there next to none', () => {
    const before = process.memoryUsage()
    const maps = Array.from({ length: 100 }, () => new BlockMap(2 ** 38))
    for (const map of maps) map.add(2 ** 37, 2 ** 37 + 1)
    const after = process.memoryUsage()
    const bytes = after.heapUsed - before.heapUsed + (after.arrayBuffers - before.arrayBuffers)
    assert(bytes < 100 * 256 * 1024, `${bytes} bytes`)
    assert.deepEqual(
      maps.map((map) => map.count),
      maps.map(() => 1),
    )
  })
})
