import assert from 'node:assert/strict'
import { systemClock } from '../../src/daemon/clock.ts'

describe('the clock', () => {
  it('promise 11: sleeps for as long as it is told, be it longer than a timer can', async () => {
    const over = new AbortController()
    let isAwake = false
    const sleeping = systemClock.sleep(2 ** 53 - 1, over.signal).finally(() => {
      isAwake = true
    })
    await systemClock.sleep(20) // A timer that is too long for Node is over before this one.
    assert.equal(isAwake, false)
    over.abort(new Error('enough'))
    await assert.rejects(sleeping, /enough/)
  })
})
