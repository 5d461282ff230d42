import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { runSeed } from './seeds.ts'
import { addTo } from './simulate.ts'

const budgetMs = 60_000
/** A busy machine may do few seeds in that time: it goes on until all of `mustHappen` has, for at most so many. */
const seedsBound = { least: 300, most: 3000 }
/** CI judges a change: the same tree is given the same runs, whoever repeats them. Elsewhere each run tries new ones. */
const firstSeed = Number(process.env['SEED'] ?? (process.env['CI'] ? 1 : randomInt(2 ** 31)))
/** Without these a run would prove little. */
const mustHappen = [
  'writes',
  'raggedWrites',
  'zerosTold',
  'crashes',
  'stops',
  'pauses',
  'reclaims',
  'verifications',
  'endedByForce',
  'failedSyncs',
  'acceptances',
  'ready',
  'blocksAhead',
  'blocksAheadTogether',
  'flippedPieces',
  'rottenMaps',
  'flips',
  'differencesFound',
  'unreadableProbes',
  'restored',
  'strayRefusals',
  'switched',
  'switchedDirectly',
  'switchedTogether',
  'cancelled',
  'lies',
  'deedsShown',
  'ringMoves',
  'grants',
  'returns',
  'parked',
  'claimsLost',
  'unfits',
]

describe('crash model', () => {
  it('promises 1 to 8 hold while either site loses its process or its power at any await, disks fill up, syncs and commits fail, and messages are cut, delayed and repeated, bits flip, and storage lies', async function () {
    this.timeout(budgetMs * 15)
    const until = Date.now() + budgetMs
    const totals: Record<string, number> = {}
    let seeds = 0
    const isThin = () => seeds < seedsBound.least || mustHappen.some((what) => !totals[what])
    for (let seed = firstSeed; Date.now() < until || (isThin() && seeds < seedsBound.most); seed++) {
      addTo(totals, await runSeed(seed)) // Throws with the seed and the trace.
      seeds++
    }
    for (const what of mustHappen) assert(totals[what]! > 0, `${what}: ${JSON.stringify(totals)}`)
    process.stdout.write(`      ${seeds} seeds from ${firstSeed}: ${JSON.stringify(totals)}\n`)
  })

  it('the same seed gives the same run', async () => {
    for (const seed of [4711, 4712, 4713, 4720, 4730]) assert.deepEqual(await runSeed(seed), await runSeed(seed))
  })
})
