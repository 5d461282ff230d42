import assert from 'node:assert/strict'
import { type DiskState, diskStates, isDiskState, moved } from '../../src/disk/states.ts'
import { diskRecord } from '../store/samples.ts'

/** The picture in DESIGN.md, section 3; freezing is no state of a record. */
const legal: readonly (readonly [DiskState, DiskState])[] = [
  ['owned', 'departed'],
  ['departed', 'owned'], // disk reclaim
  ['departed', 'released'],
  ['released', 'incoming'],
  ['incoming', 'arriving'],
  ['incoming', 'gone'],
  ['incoming', 'released'], // A cancelled way back.
  ['incoming', 'superseded'],
  ['arriving', 'owned'],
  ['owned', 'superseded'],
  ['departed', 'superseded'],
  ['released', 'superseded'],
  ['arriving', 'superseded'],
  ['superseded', 'incoming'],
]

describe('states of a disk', () => {
  for (const from of diskStates) {
    for (const to of diskStates) {
      const isLegal = legal.some(([a, b]) => a === from && b === to)
      it(`promise 1: ${from} ${isLegal ? 'may become' : 'never becomes'} ${to}`, () => {
        const move = () => moved(diskRecord({ state: from }), to)
        if (isLegal) assert.equal(move().state, to)
        else assert.throws(move, { name: 'AssertionError' })
      })
    }
  }

  it('promise 1: a generation never goes back', () => {
    const record = diskRecord({ state: 'incoming', generation: 3 })
    assert.throws(() => moved(record, 'arriving', { generation: 2 }), { name: 'AssertionError' })
    assert.equal(moved(record, 'arriving', { generation: 4 }).generation, 4)
  })

  it('a move keeps what it does not name, and leaves the record before as it was', () => {
    const record = diskRecord({ state: 'owned', generation: 1 })
    const next = moved(record, 'departed', { generation: 2, owner: 'there' })
    assert.deepEqual(next, { ...record, state: 'departed', generation: 2, owner: 'there' })
    assert.equal(record.state, 'owned')
  })

  it('a word that is no state is not taken for one', () => {
    assert.equal(isDiskState('freezing'), false)
    assert.equal(isDiskState('toString'), false)
    assert.throws(() => moved(diskRecord({ state: 'freezing' }), 'owned'), { name: 'AssertionError' })
  })
})
