// What is given back, and what is not: a mistake here would take bytes from whoever still uses them.

import assert from 'node:assert/strict'
import { detach, giveBack, withOwnMemory } from '../../src/block/own-memory.ts'

const size = 256 * 1024

describe('own memory', () => {
  it('is given back when its holder says so, and reads as nothing after', () => {
    const bytes = withOwnMemory(Buffer.alloc(size, 1).subarray(48))
    const all = bytes.buffer
    giveBack(bytes)
    assert.deepEqual([bytes.length, all.byteLength], [0, 0])
    giveBack(bytes) // Once is enough.
    giveBack(undefined)
  })

  it('is not given back by whoever has only a part of it, or of which nobody said that it is one holder’s', () => {
    const whole = withOwnMemory(Buffer.alloc(size, 1))
    giveBack(whole.subarray(0, size / 2))
    const other = Buffer.alloc(size, 2)
    giveBack(other)
    assert.deepEqual([whole.length, other.length], [size, size])
  })

  it('is not what Node cuts small buffers from', () => {
    const small = Buffer.from('one of many')
    const another = Buffer.from('in the same memory')
    detach(small)
    assert.equal(another.toString(), 'in the same memory')
    assert.equal(small.toString(), 'one of many')
  })
})
