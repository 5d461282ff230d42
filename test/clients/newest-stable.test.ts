// Every run tries the clients of the newest stable Debian too, and not those alone of the year in which this machine was
// set up: QEMU 10 failed at its first write here while QEMU 7.2 passed every test.

import assert from 'node:assert/strict'
import { needMade, skipHere } from '../tools.ts'
import { mochaOf, runWith } from './enter.ts'
import { hindrance, isThere, newestStable, rootOf } from './roots.ts'
import { everyTime } from './tests.ts'

describe(`with the clients of Debian's ${newestStable}`, function () {
  const deadlineMs = 300_000
  this.timeout(deadlineMs + 30_000)
  before(function () {
    const reason = hindrance()
    if (reason !== undefined) skipHere(this, reason)
    if (isThere(newestStable)) return
    needMade(this, `the root of Debian's ${newestStable}`, `npm run test:clients -- --make ${newestStable}`)
  })

  for (const path of everyTime) {
    it(`${path} passes`, async () => {
      const { code, output } = await runWith(rootOf(newestStable), mochaOf([path]), { deadlineMs })
      assert.equal(code, 0, output)
    })
  }
})
