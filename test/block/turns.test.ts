// Background work takes one step in a turn of the loop, of all who ask; what a guest waits for goes first.

import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { sha256 } from '../../src/block/digest.ts'
import { stepBytes, Turns } from '../../src/block/turns.ts'

/** Turns that come when the test says so. */
function byHand() {
  const due: (() => void)[] = []
  const turns = new Turns((call) => void due.push(call))
  /** Resolves when the turn's microtasks have run. False: nobody asked for one. */
  const turn = async (): Promise<boolean> => {
    const calls = due.splice(0)
    for (const call of calls) call()
    await new Promise((resolve) => setImmediate(resolve))
    return calls.length > 0
  }
  return { turns, turn }
}

describe('turns of the loop', () => {
  it('are given to one at a time, in the order in which they were asked for', async () => {
    const { turns, turn } = byHand()
    const had: number[] = []
    for (const who of [1, 2, 3]) void turns.next().then(() => had.push(who))
    await turn()
    assert.deepEqual(had, [1])
    await turn()
    assert.deepEqual(had, [1, 2])
    await turn()
    assert.deepEqual(had, [1, 2, 3])
    assert.equal(await turn(), false)
  })

  it('go first to what a guest waits for', async () => {
    const { turns, turn } = byHand()
    const had: string[] = []
    for (const urgency of ['background', 'background', 'demand'] as const) {
      void turns.next(urgency).then(() => had.push(urgency))
    }
    while (await turn());
    assert.deepEqual(had, ['demand', 'background', 'background'])
  })

  it('promise 10: are not taken from others by whoever asks for more at once', async () => {
    const { turns, turn } = byHand()
    const bytes = randomBytes(4 * stepBytes)
    let isGreedyDone = 0
    for (let count = 0; count < 64; count++)
      void sha256(bytes, () => turns.next('background', 'greedy')).then(() => isGreedyDone++)
    for (const who of ['', 'another']) {
      for (let step = 0; step < 20; step++) {
        let had = false
        void turns.next('background', who).then(() => {
          had = true
        })
        await turn()
        if (!had) await turn()
        assert(had, 'after one step of the greedy one')
      }
    }
    assert.equal(isGreedyDone, 0)
    while (await turn());
    assert.equal(isGreedyDone, 64)
  })

  it('are taken for every 64 KiB of a digest, whoever else asks for digests meanwhile', async () => {
    const { turns, turn } = byHand()
    const bytes = randomBytes(3 * stepBytes + 1)
    const digests: Buffer[] = []
    for (let count = 0; count < 4; count++) void sha256(bytes, () => turns.next()).then((each) => digests.push(each))
    let taken = 0
    while (await turn()) taken++
    assert.equal(taken, 4 * 4)
    const whole = createHash('sha256').update(bytes).digest()
    assert.deepEqual(digests, [whole, whole, whole, whole])
  })
})
