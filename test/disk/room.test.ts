import assert from 'node:assert/strict'
import { lackOfRoom, spareBytes } from '../../src/disk/room.ts'

const mebibyte = 2 ** 20

describe('room for a new disk', () => {
  it('is what it needs, and what is left to the others', () => {
    assert.equal(lackOfRoom(3 * mebibyte + spareBytes, 'web01', 3 * mebibyte), undefined)
    assert.notEqual(lackOfRoom(3 * mebibyte + spareBytes - 1, 'web01', 3 * mebibyte), undefined)
  })
  it('is told with units, and never as more than there is', () => {
    const lack = lackOfRoom(2 * mebibyte - 1, 'web01', 3 * mebibyte + 1)
    assert.equal(lack, '1 MiB free; web01 needs 4 MiB, and 64 MiB to spare')
  })
})
