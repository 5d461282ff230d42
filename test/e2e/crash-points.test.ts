// Sites that die at a durable step of a move. Some of the steps; npm run test:crash takes them all.

import { crashAndComplete } from '../crash/points.ts'
import { endSitesAfterEach, folder, refusalOf, serveRefused } from './sites.ts'

const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 32)

describe(`a site that dies at a durable step, SEED=${seed}`, () => {
  endSitesAfterEach()

  for (const [side, point] of [
    ['source', 'after:disk-departed'],
    ['destination', 'before:disk-arriving'],
    ['destination', 'after:data-synced#3'],
    ['destination', 'before:disk-owned'],
  ] as const) {
    it(`promises 1, 2, 6, 8: the ${side} dies ${point.replace(':', ' ')}: nothing is lost, one owns`, () =>
      crashAndComplete({ side, point }, seed))
  }

  it('a crash point that does not exist is refused, so that no test arms nothing', async () => {
    process.env['VMSTORE_TEST_CRASH_POINT'] = 'before:never'
    try {
      refusalOf(await serveRefused('--root', folder()), 3, 'crash-point-unknown')
    } finally {
      delete process.env['VMSTORE_TEST_CRASH_POINT']
    }
  })
})
