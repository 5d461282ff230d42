// When what is copied ahead has come so far that a machine may move.

import assert from 'node:assert/strict'
import { Convergence } from '../../src/migration/copy/convergence.ts'
import { settled } from '../disk/hand.ts'
import { FakeClock } from './fake-time.ts'

const mebibyte = 2 ** 20
const never = new AbortController().signal

class Passes {
  readonly clock = new FakeClock()
  readonly convergence: Convergence
  judged = 0

  constructor(mustFit = false) {
    this.convergence = new Convergence({ clock: this.clock, mustFit, judged: () => void this.judged++ })
  }

  /** A pass of a second in which so much came, after which so much is left. Resolves when it is judged. */
  async pass(cameBytes: number, leftBytes: number, isWhole = true): Promise<{ readonly rested: Promise<void> }> {
    this.convergence.begins()
    await this.clock.advance(1000)
    this.convergence.came(cameBytes)
    const rested = this.convergence.passed(leftBytes, isWhole, never)
    await settled()
    return { rested }
  }
}

describe('convergence of what is copied ahead', () => {
  it('nothing is said before the first pass', () => {
    const { convergence } = new Passes()
    assert.deepEqual([convergence.isFirst, convergence.fits, convergence.isInStep], [true, false, false])
  })

  it('it is in step when what is left would come within a second', async () => {
    const passes = new Passes()
    await passes.pass(100 * mebibyte, 101 * mebibyte)
    assert(!passes.convergence.isInStep)
    await passes.pass(100 * mebibyte, 99 * mebibyte)
    assert(passes.convergence.isInStep)
    assert.equal(passes.judged, 2)
  })

  it('or when it does not shrink any more over some passes, for the guest writes as fast as it comes', async () => {
    const passes = new Passes()
    for (const left of [900, 800, 790, 795]) await passes.pass(100 * mebibyte, left * mebibyte)
    assert(!passes.convergence.isInStep)
    await passes.pass(100 * mebibyte, 789 * mebibyte)
    assert(passes.convergence.isInStep)
    assert(!passes.convergence.fits)
  })

  it('but not while what is written often is kept back: what is left is that, and comes yet', async () => {
    const passes = new Passes()
    for (let count = 0; count < 8; count++) await passes.pass(2 * mebibyte, 800 * mebibyte, false)
    assert(!passes.convergence.isInStep)
    await passes.pass(800 * mebibyte, mebibyte)
    assert(passes.convergence.isInStep)
  })

  it('where all has to come before switchover, only the former', async () => {
    const passes = new Passes(true)
    for (let count = 0; count < 8; count++) await passes.pass(100 * mebibyte, 800 * mebibyte)
    assert(!passes.convergence.isInStep)
    await passes.pass(100 * mebibyte, 0)
    assert(passes.convergence.isInStep)
  })

  it('a guest that writes more later does not have it begin again; where all has to come, it does', async () => {
    for (const [mustFit, isInStep] of [
      [false, true],
      [true, false],
    ] as const) {
      const passes = new Passes(mustFit)
      await passes.pass(100 * mebibyte, 0)
      await passes.pass(100 * mebibyte, 800 * mebibyte)
      assert.equal(passes.convergence.isInStep, isInStep)
    }
  })

  it('in step, four fifths of the time nothing is done, unless somebody waits', async () => {
    const passes = new Passes()
    const { rested } = await passes.pass(100 * mebibyte, 0)
    let isOver = false
    rested.then(() => {
      isOver = true
    }, assert.fail)
    await passes.clock.advance(3900)
    assert(!isOver)
    await passes.clock.advance(200)
    assert(isOver)
    const { rested: nudged } = await passes.pass(100 * mebibyte, 0)
    passes.convergence.nudge()
    await nudged
  })

  it('nor for so long that more than a quarter of the last moments is written meanwhile', async () => {
    const passes = new Passes()
    // 5 MiB were written in this second: a quarter of the last moments are 25.
    const { rested } = await passes.pass(100 * mebibyte, 5 * mebibyte)
    let isOver = false
    rested.then(() => {
      isOver = true
    }, assert.fail)
    await passes.clock.advance(3900)
    assert(!isOver)
    await passes.clock.advance(200)
    assert(isOver)
    const { rested: slower } = await passes.pass(100 * mebibyte, 10 * mebibyte)
    let isOverToo = false
    slower.then(() => {
      isOverToo = true
    }, assert.fail)
    await passes.clock.advance(1400)
    assert(!isOverToo)
    await passes.clock.advance(200)
    assert(isOverToo)
  })

  it('and not at all while more than that is left', async () => {
    const passes = new Passes()
    await (await passes.pass(100 * mebibyte, 26 * mebibyte)).rested
  })

  it('before that, nothing rests', async () => {
    const passes = new Passes()
    await (await passes.pass(100 * mebibyte, 800 * mebibyte)).rested
  })

  it('another epoch begins with nothing', async () => {
    const passes = new Passes()
    await passes.pass(100 * mebibyte, 0)
    passes.convergence.anew()
    assert.deepEqual([passes.convergence.isFirst, passes.convergence.isInStep], [true, false])
  })
})
