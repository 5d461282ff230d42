// Which run a seed is: two sites (simulate.ts), or three in a ring (ring.ts).

import { simulateRing } from './ring.ts'
import { simulate } from './simulate.ts'

/** One run in so many. */
const ringEvery = 11

/** Runs one seed. Resolves to its figures. @throws the first promise that does not hold, with the last events */
export async function runSeed(seed: number): Promise<object> {
  return seed % ringEvery === 0 ? simulateRing(seed) : simulate(seed)
}
