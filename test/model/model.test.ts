import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { simulate } from './simulate.ts'

const budgetMs = 20_000

describe('crash model', () => {
  it('promises 1 to 8 hold while either site loses its process or its power at any await, and messages are cut, delayed and repeated', async function () {
    this.timeout(budgetMs * 6)
    const first = Number(process.env['SEED'] ?? randomInt(2 ** 31))
    const until = Date.now() + budgetMs
    const totals = { seeds: 0, reads: 0, writes: 0, crashes: 0, switched: 0, cancelled: 0 }
    for (let seed = first; Date.now() < until || totals.seeds < 100; seed++) {
      const outcome = await simulate(seed) // Throws with the seed and the trace.
      totals.seeds++
      totals.reads += outcome.reads
      totals.writes += outcome.writes
      totals.crashes += outcome.crashes
      totals.switched += Number(outcome.switched)
      totals.cancelled += Number(outcome.cancelled)
    }
    // A model in which nothing happens would prove nothing.
    assert(totals.writes > totals.seeds && totals.crashes > 0 && totals.switched > 0, JSON.stringify(totals))
    process.stdout.write(`      from seed ${first}: ${JSON.stringify(totals)}\n`)
  })

  it('the same seed gives the same run', async () => {
    assert.deepEqual(await simulate(4711), await simulate(4711))
  })
})
