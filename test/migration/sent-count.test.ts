import assert from 'node:assert/strict'
import { SentCount } from '../../src/migration/source/sent-count.ts'
import { block } from '../disk/hand.ts'

const data = (first: number, blocks: number) => ({
  offset: first * block,
  length: blocks * block,
  bytes: Buffer.alloc(blocks * block, 1),
})

describe('what the source has sent', () => {
  it('counts each byte, and those of blocks that were sent before once more', () => {
    const count = new SentCount(100 * block)
    count.add(data(0, 10))
    count.add(data(20, 10))
    assert.deepEqual(count.now, { sent: 20 * block, resent: 0 })
    count.add(data(5, 20))
    assert.deepEqual(count.now, { sent: 40 * block, resent: 10 * block })
  })

  it('zeros weigh nothing', () => {
    const count = new SentCount(100 * block)
    count.add({ offset: 0, length: 10 * block, bytes: undefined })
    count.add(data(0, 10))
    assert.deepEqual(count.now, { sent: 10 * block, resent: 0 })
  })

  it('the last block of a disk may be short', () => {
    const count = new SentCount(block + 512)
    const last = { offset: block, length: 512, bytes: Buffer.alloc(512, 1) }
    count.add(last)
    count.add(last)
    assert.deepEqual(count.now, { sent: 1024, resent: 512 })
  })

  it('takes over what a destination remembers of a source that has started anew', () => {
    const count = new SentCount(100 * block)
    count.add(data(0, 1))
    count.atLeast({ sent: 50 * block, resent: 3 * block })
    count.add(data(1, 1))
    assert.deepEqual(count.now, { sent: 51 * block, resent: 3 * block })
    count.atLeast({ sent: 2 * block, resent: 0 })
    assert.deepEqual(count.now, { sent: 51 * block, resent: 3 * block })
  })
})
