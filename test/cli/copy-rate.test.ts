// A time left that is shown was measured.

import assert from 'node:assert/strict'
import { CopyRate } from '../../src/cli/copy-rate.ts'

const mebibyte = 2 ** 20
const total = 100 * 1024 * mebibyte

describe('the rate of a copy', () => {
  it('is not told before it was measured for three seconds, however long the copy waited to begin', () => {
    const rate = new CopyRate()
    for (const nowMs of [60_000, 61_000, 62_900]) assert.equal(rate.at(nowMs, mebibyte, total), undefined)
    assert.notEqual(rate.at(63_000, 2 * mebibyte, total), undefined)
  })

  it('is that of the last ten seconds', () => {
    const rate = new CopyRate()
    for (let second = 0; second <= 20; second++) rate.at(second * 1000, second * mebibyte, total)
    let last: ReturnType<CopyRate['at']>
    for (let second = 20; second <= 31; second++)
      last = rate.at(second * 1000, (20 + 100 * (second - 20)) * mebibyte, total)
    assert.equal(last!.rate, 100 * mebibyte)
  })

  it('says how long it will take, as far ahead as what was measured bears', () => {
    const rate = new CopyRate()
    rate.at(0, 0, total)
    assert.deepEqual(rate.at(4000, 4 * mebibyte, total), { rate: mebibyte, secondsLeft: null }, '28 hours after 4 s')
    const fast = new CopyRate()
    fast.at(0, 0, total)
    const { secondsLeft } = fast.at(4000, 4096 * mebibyte, total)!
    assert.equal(secondsLeft, 96)
  })

  it('is not told while nothing comes', () => {
    const rate = new CopyRate()
    for (let second = 0; second <= 30; second++) rate.at(second * 1000, mebibyte, total)
    assert.equal(rate.at(31_000, mebibyte, total), undefined)
  })

  it('keeps few samples, however often it is asked', () => {
    const rate = new CopyRate()
    let estimate: ReturnType<CopyRate['at']>
    for (let ms = 0; ms <= 20_000; ms++) estimate = rate.at(ms, ms * 1000, total)
    assert(Math.abs(estimate!.rate - 1_000_000) < 1000)
  })
})
