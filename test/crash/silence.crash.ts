// The network between two sites falls silent for as long as TCP needs to wait for tens of seconds between two attempts of its own.

import assert from 'node:assert/strict'
import { Network } from '../e2e/network.ts'
import { checkSilences, moveOverSlowLine, moveThroughSilences, type Silences } from '../e2e/silence.ts'
import { endSitesAfterEach } from '../e2e/sites.ts'

const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 32)
/** A read may ask for what the copy has on its way. A connection given up would cost the 2 MiB that wait before it. */
const askedTwiceBytes = 256 * 1024
const outagesMs = [3000, 20_000, 40_000]

describe(`a link that falls silent for long, SEED=${seed}`, () => {
  endSitesAfterEach()

  for (const dials of ['destination', 'source'] as const) {
    it(`promise 8: goes on within 3 s of its return when the ${dials} dials`, async function () {
      this.timeout(240_000)
      const silences: Silences = { network: Network.make(this), seed, dials, outagesMs }
      checkSilences(silences, await moveThroughSilences(silences))
    })
  }
})

describe('a slow line that is full of the copy', () => {
  endSitesAfterEach()

  it('of 1 Mbit/s with a queue of 700 ms is not taken for a silent one', async function () {
    this.timeout(180_000)
    const network = Network.make(this)
    network.narrow('a', 1000, 700)
    network.narrow('b', 1000, 700)
    const { resentBytes, seconds, slowestReadMs } = await moveOverSlowLine(network, 6 * 2 ** 20)
    console.log(`      ${seconds.toFixed(0)} s, the slowest read took ${slowestReadMs.toFixed(0)} ms`)
    assert(resentBytes < askedTwiceBytes, `${resentBytes} bytes were sent again`)
  })
})
