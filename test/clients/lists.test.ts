// The tests that are run with other Debians' clients are chosen by what they say that they need.

import assert from 'node:assert/strict'
import { allTests, everyTime, left, testsWithClients } from './tests.ts'

describe('tests with other Debians’ clients', () => {
  it('what every run tries, and what is left out, are among those that need a client', () => {
    const found = new Set(testsWithClients())
    assert(found.size > 20)
    assert.deepEqual(
      [...everyTime, ...Object.keys(left)].filter((path) => !found.has(path)),
      [],
    )
  })

  it('all tests of test/interop are tried in every run', () => {
    assert.deepEqual(
      allTests().filter((path) => path.startsWith('test/interop/') && !everyTime.includes(path)),
      [],
    )
  })
})
