// The network between two sites falls silent and comes back, in the middle of a move under a guest's load: nothing is reset,
// packets vanish, as on the way between two providers. Longer silences are in test/crash/silence.crash.ts.

import { Network } from './network.ts'
import { checkSilences, moveThroughSilences, type Silences } from './silence.ts'
import { endSitesAfterEach } from './sites.ts'

const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 32)

/** Within TCP's waiting for its next attempt (6.2 to 12.8 s after the first), and beyond the life of a connection. */
const outagesMs = { destination: [3000, 12_000], source: [6500] }

describe(`a link that falls silent, SEED=${seed}`, () => {
  endSitesAfterEach()

  for (const dials of ['destination', 'source'] as const) {
    it(`promise 8: goes on within 3 s of its return when the ${dials} dials, and sends again no more than what was in flight`, async function () {
      const silences: Silences = {
        network: Network.make(this),
        seed,
        dials,
        outagesMs: outagesMs[dials],
      }
      checkSilences(silences, await moveThroughSilences(silences))
    })
  }
})
