// What a request to move disks says of the disks.

import assert from 'node:assert/strict'
import { migrateRequest } from '../../src/control/types.ts'

const rest = { to: 'tokyo', mode: 'post-copy', switchover: 'auto', switchoverWaitMs: 10_000, source: 'keep' }

/** The disks that are asked for, or what is wrong with the request. */
function asked(what: object): readonly string[] | string | undefined {
  const { data, error } = migrateRequest.safeParse({ ...rest, ...what })
  return data?.disks ?? error?.issues[0]?.message
}

describe('a request to move disks', () => {
  it('names one disk, as commands of every version do, or several in their order', () => {
    assert.deepEqual(asked({ disk: 'web01' }), ['web01'])
    assert.deepEqual(asked({ disks: ['web02'] }), ['web02'])
    assert.deepEqual(asked({ disks: ['web02', 'web01'] }), ['web02', 'web01'])
  })

  it('says it in one way, not in both, nor in none', () => {
    const sentence = 'exactly one of disk and disks says what is moved'
    assert.equal(asked({}), sentence)
    assert.equal(asked({ disk: 'web01', disks: ['web02'] }), sentence)
  })

  it('names no disk twice, at least one, and no more than can pass together', () => {
    assert.equal(asked({ disks: ['web01', 'web01'] }), 'disks names a disk twice')
    assert.equal(typeof asked({ disks: [] }), 'string')
    const names = Array.from({ length: 65 }, (_, index) => `web${index}`)
    assert.deepEqual(asked({ disks: names.slice(1) }), names.slice(1))
    assert.equal(typeof asked({ disks: names }), 'string')
  })
})
