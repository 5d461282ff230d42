import assert from 'node:assert/strict'
import { nearestName, nearestText } from '../../src/disk/nearest-name.ts'

describe('a name that is not there', () => {
  it('is likely the one that is spelled most like it', () => {
    const names = ['web01', 'web02', 'db', 'database-primary']
    assert.deepEqual(
      ['wbe01', 'web03', 'WEB02', 'databaseprimary', 'qb', 'mail', 'x', ''].map((word) => nearestName(word, names)),
      ['web01', 'web01', 'web02', 'database-primary', 'db', undefined, undefined, undefined],
    )
    assert.equal(nearestText('wbe01', names), 'Did you mean web01? ')
    assert.equal(nearestText('mail', names), '')
  })
})
