import { endSitesAfterEach } from '../e2e/sites.ts'
import { crashAndComplete, crashPoints } from './points.ts'

const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 32)

describe(`a site that dies at a durable step of a move, SEED=${seed}`, () => {
  endSitesAfterEach()

  for (const crashPoint of crashPoints) {
    it(`promises 1, 2, 6, 8: the ${crashPoint.side} dies ${crashPoint.point.replace(':', ' ')}: nothing is lost, one owns`, () =>
      crashAndComplete(crashPoint, seed))
  }
})
