// Blocks of zeros are found, all of them and nothing else, wherever the bytes lie in the disk.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { blockSizeBytes } from '../../src/block/block-size.ts'
import { blockExtents, nonZeroExtents } from '../../src/block/zeros.ts'
import { seededRandom } from '../random.ts'

const block = blockSizeBytes

describe('zeros in bytes', () => {
  it('of nothing there are none', () => {
    assert.deepEqual(blockExtents(Buffer.alloc(0), 0), [])
  })

  it('bytes that are all zero, or have no block of zeros, are one extent', () => {
    assert.deepEqual(blockExtents(Buffer.alloc(3 * block), 0), [{ from: 0, end: 3 * block, isZero: true }])
    assert.deepEqual(blockExtents(Buffer.alloc(3 * block, 1), 0), [{ from: 0, end: 3 * block, isZero: false }])
  })

  it('one byte makes its block data, wherever it stands in it', () => {
    for (const at of [0, 1, 7, 2048, block - 2, block - 1]) {
      const bytes = Buffer.alloc(3 * block)
      bytes[block + at] = 1
      assert.deepEqual(nonZeroExtents(bytes, 0), [{ from: block, end: 2 * block, isZero: false }], `${at}`)
    }
  })

  it('blocks are those of the disk, not of the bytes', () => {
    const bytes = Buffer.alloc(20_000)
    bytes[4095] = 1
    bytes[4096] = 1
    bytes[19_999] = 1
    assert.deepEqual(nonZeroExtents(bytes, 0), [
      { from: 0, end: 8192, isZero: false },
      { from: 16_384, end: 20_000, isZero: false },
    ])
    assert.deepEqual(nonZeroExtents(bytes, 4095), [
      { from: 1, end: 4097, isZero: false },
      { from: 16_385, end: 20_000, isZero: false },
    ])
    const inside = Buffer.alloc(8192)
    inside[5000] = 1
    assert.deepEqual(nonZeroExtents(inside, 1 << 30), [{ from: 4096, end: 8192, isZero: false }])
  })

  it('at random: every byte is in one extent, neighbours differ, and each says what stands there', () => {
    const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31))
    const random = seededRandom(seed)
    for (let round = 0; round < 200; round++) {
      const facts = `seed ${seed} round ${round}`
      const offset = random.integer(100) * 512
      const bytes = Buffer.alloc(512 * random.integer(200))
      for (let count = random.integer(20); count > 0 && bytes.length > 0; count--)
        bytes[random.integer(bytes.length)] = 1
      let reached = 0
      let before: boolean | undefined
      for (const { from, end, isZero } of blockExtents(bytes, offset)) {
        assert.equal(from, reached, facts)
        assert(from === 0 || (offset + from) % block === 0, facts)
        assert.notEqual(isZero, before, facts)
        for (let at = from; at < end; ) {
          const next = Math.min(end, at + block - ((offset + at) % block))
          assert.equal(
            bytes.subarray(at, next).every((byte) => byte === 0),
            isZero,
            facts,
          )
          at = next
        }
        reached = end
        before = isZero
      }
      assert.equal(reached, bytes.length, facts)
    }
  })
})
