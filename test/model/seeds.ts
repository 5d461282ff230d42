// Which runs a seed is: two sites (simulate.ts), or three in a ring (ring.ts); and sometimes a hand-over by a relay alone besides.

import { simulateFence } from './relay-fence.ts'
import { simulateRing } from './ring.ts'
import { simulate } from './simulate.ts'

/** One run in so many. */
const ringEvery = 11
const fenceEvery = 3

/** Runs one seed. Resolves to its figures. @throws the first promise that does not hold, with the last events */
export async function runSeed(seed: number): Promise<object> {
  const byRelay = seed % fenceEvery === 0 ? await simulateFence(seed) : {}
  const moved = seed % ringEvery === 0 ? await simulateRing(seed) : await simulate(seed)
  return { ...moved, ...byRelay }
}
