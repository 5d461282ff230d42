import { endSitesAfterEach } from '../e2e/sites.ts'
import { needFioAndProxy } from './fio-guest.ts'
import { crashAfterRefusal, crashInFreeze, crashUnderFio } from './fio-moves.ts'
import { crashPoints } from './points.ts'

const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 32)

describe(`a site that dies at a durable step of a move, under fio, SEED=${seed}`, () => {
  before(function () {
    needFioAndProxy(this)
  })
  endSitesAfterEach()

  for (const { side, point } of crashPoints) {
    it(`promises 1, 2, 6, 8: the ${side} dies ${point.replace(':', ' ')}: fio sees neither an error nor a wrong byte`, () =>
      crashUnderFio(side, point, seed))
  }

  for (const [side, point] of [
    ['source', 'before:data-synced'],
    ['source', 'after:disk-departed'],
    ['destination', 'after:disk-arriving'],
    ['destination', 'after:data-synced#3'],
    ['destination', 'before:disk-owned'],
  ] as const) {
    it(`promises 1, 2, 6, 8: both die when the ${side} is ${point.replace(':', ' ')}: fio sees neither an error nor a wrong byte`, () =>
      crashUnderFio(side, point, seed, true))
  }

  for (const point of ['before:data-synced#2', 'after:data-synced#2', 'before:disk-departed']) {
    it(`promise 2: the source dies in the freeze ${point.replace(':', ' ')}, with fio’s requests held, and goes on owning`, () =>
      crashInFreeze(point, seed))
  }

  it('promise 1: a write at the destination is refused while fio works at the source; then both die, and nothing is lost', () =>
    crashAfterRefusal(seed))
})
