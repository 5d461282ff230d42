// npm run simulate -- [--seeds N] [--first S]: runs seeds of the crash model and stops at the first that fails.

import { parseArgs } from 'node:util'
import { runSeed } from './seeds.ts'
import { addTo } from './simulate.ts'

const { values } = parseArgs({
  options: { seeds: { type: 'string', default: '1000' }, first: { type: 'string', default: '1' } },
})
const first = Number(values.first)
const count = Number(values.seeds)
const totals: Record<string, number> = {}
const started = Date.now()
for (let seed = first; seed < first + count; seed++) {
  const outcome = await runSeed(seed).catch((error: Error) => {
    process.stderr.write(`${error.message}\n\nReplay: npm run simulate -- --first ${seed} --seeds 1\n`)
    process.exit(1)
  })
  addTo(totals, outcome)
}
process.stdout.write(
  `${count} seeds from ${first} in ${((Date.now() - started) / 1000).toFixed(1)} s: ${JSON.stringify(totals)}\n`,
)
