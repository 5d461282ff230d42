import assert from 'node:assert/strict'
import { BlockPools } from '../../src/guest/blocks.ts'

describe('block pools', () => {
  it('all sessions of what has one id share a pool, and nobody else does', () => {
    const pools = new BlockPools()
    const pool = pools.take({ id: 'a' })
    assert.equal(pools.take({ id: 'a' }), pool)
    assert.notEqual(pools.take({ id: 'b' }), pool)
  })

  it('a pool goes with the last session', () => {
    const pools = new BlockPools()
    const pool = pools.take({ id: 'a' })
    pools.take({ id: 'a' })
    pools.giveBack({ id: 'a' })
    assert.equal(pools.take({ id: 'a' }), pool)
    pools.giveBack({ id: 'a' })
    pools.giveBack({ id: 'a' })
    assert.notEqual(pools.take({ id: 'a' }), pool)
  })
})
