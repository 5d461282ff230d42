import assert from 'node:assert/strict'
import { Grouping } from '../../src/block/grouping.ts'
import { isSettled, settled } from '../disk/hand.ts'

/** Runs that the test ends by hand. */
function handRuns(): { grouping: Grouping; runs: PromiseWithResolvers<void>[] } {
  const runs: PromiseWithResolvers<void>[] = []
  const grouping = new Grouping(() => {
    const run = Promise.withResolvers<void>()
    runs.push(run)
    return run.promise
  })
  return { grouping, runs }
}

describe('grouped work', () => {
  it('that is asked for while a run is under way is done by the next, for all who ask meanwhile', async () => {
    const { grouping, runs } = handRuns()
    const first = grouping.ask()
    const others = Promise.all([grouping.ask(), grouping.ask()])
    runs[0]!.resolve()
    await first
    await settled()
    assert.equal(runs.length, 2)
    assert.equal(await isSettled(others), false)
    runs[1]!.resolve()
    await others
  })

  it('that failed is tried again for whoever asks after', async () => {
    const { grouping, runs } = handRuns()
    const first = grouping.ask()
    const second = grouping.ask()
    runs[0]!.reject(new Error('not now'))
    await assert.rejects(first, /not now/)
    await settled()
    runs[1]!.resolve()
    await second
  })
})
