// When the loop looks for the next request instead of sleeping.

import assert from 'node:assert/strict'
import { BusyPoll } from '../../src/guest/busy-poll.ts'

/** Time that stands still unless told; each turn of the loop takes 0.01 ms. */
function poller(maxMs: number) {
  let nowMs = 1
  let turn: (() => void) | undefined
  const poll = new BusyPoll(maxMs, {
    nowMs: () => nowMs,
    nextTurn: (call) => {
      turn = call
    },
  })
  return {
    /** A batch that comes `afterMs` after the last one ended. */
    batch: (afterMs: number) => {
      nowMs += afterMs
      poll.began()
      poll.ended()
    },
    /** For how long the loop looks, if nothing comes. */
    lookedMs: () => {
      const since = nowMs
      while (turn !== undefined) {
        nowMs += 0.01
        const call: () => void = turn
        turn = undefined
        call()
      }
      return nowMs - since
    },
  }
}

describe('busy poll', () => {
  it('does not look before it knows that requests come fast', () => {
    const { batch, lookedMs } = poller(0.1)
    batch(0.03)
    assert.equal(lookedMs(), 0)
  })

  it('looks for four mean gaps once requests come within the bound', () => {
    const { batch, lookedMs } = poller(0.1)
    for (let count = 0; count < 100; count++) batch(0.02)
    const looked = lookedMs()
    assert(looked >= 0.08 && looked < 0.1, `${looked} ms`)
  })

  it('never looks for longer than the bound', () => {
    const { batch, lookedMs } = poller(0.1)
    for (let count = 0; count < 100; count++) batch(0.09)
    const looked = lookedMs()
    assert(looked >= 0.1 && looked < 0.12, `${looked} ms`)
  })

  it('gives up when requests come late, and begins again when they come fast', () => {
    const { batch, lookedMs } = poller(0.1)
    for (let count = 0; count < 100; count++) batch(0.03)
    lookedMs()
    for (let count = 0; count < 20; count++) batch(5)
    lookedMs()
    batch(5)
    assert.equal(lookedMs(), 0)
    for (let count = 0; count < 20; count++) batch(0.03)
    assert(lookedMs() > 0)
  })

  it('never looks with a bound of 0', () => {
    const { batch, lookedMs } = poller(0)
    for (let count = 0; count < 100; count++) batch(0)
    assert.equal(lookedMs(), 0)
  })
})
