// Kills at random instants of moves back and forth under fio: source, destination, both.

import { endSitesAfterEach } from '../e2e/sites.ts'
import { seededRandom } from '../random.ts'
import { needFioAndProxy } from './fio-guest.ts'
import { diskForFio, moveUnderKills, verified } from './fio-moves.ts'

const killsWanted = 60
const limitMs = 10 * 60_000

describe('random kills under fio', () => {
  before(function () {
    needFioAndProxy(this)
  })
  endSitesAfterEach()

  it(`promises 1, 2, 6, 8: in ${killsWanted} kills at random instants of moves fio sees neither an error nor a wrong byte`, async function () {
    this.timeout(limitMs)
    const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 32)
    const random = seededRandom(seed)
    const totals = { kills: 0, moves: 0 }
    try {
      const disk = await diskForFio(seed)
      await disk.guest.start(disk.a)
      let [from, to] = [disk.a, disk.b]
      while (totals.kills < killsWanted) {
        totals.kills += await moveUnderKills(disk, from, to, random)
        totals.moves++
        ;[from, to] = [to, from]
      }
      await disk.guest.stop()
      await verified(disk, from, to)
      console.log(`      SEED=${seed}: ${JSON.stringify({ ...totals, rounds: disk.guest.rounds })}`)
    } catch (error) {
      throw new Error(`SEED=${seed}, ${JSON.stringify(totals)}: ${(error as Error).message}`, { cause: error })
    }
  })
})
