// Fifty kills at random instants of moves back and forth, under a guest that writes and verifies: source, destination,
// both.

import { setTimeout as pause } from 'node:timers/promises'
import { endSitesAfterEach, type Site } from '../e2e/sites.ts'
import { type Random, seededRandom } from '../random.ts'
import { completed, diskWithGuest, type MovingDisk, taken, verified } from './moves.ts'

const mebibyte = 2 ** 20
const sizeBytes = 24 * mebibyte
const maxRate = 8 * mebibyte
const killsWanted = 50
const killsAMove = { least: 4, spread: 6 }
const limitMs = 8 * 60_000

describe('random kills', () => {
  endSitesAfterEach()

  it(`promises 1, 2, 6, 8: ${killsWanted} kills at random instants of moves lose nothing acknowledged, and one site owns`, async function () {
    this.timeout(limitMs)
    const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 32)
    const random = seededRandom(seed)
    const totals = { kills: 0, moves: 0 }
    try {
      const moving = await diskWithGuest(seed, sizeBytes)
      let [from, to] = [moving.a, moving.b]
      while (totals.kills < killsWanted) {
        totals.kills += await moveUnderKills(moving, from, to, random)
        totals.moves++
        ;[from, to] = [to, from]
      }
      console.log(`      SEED=${seed}: ${JSON.stringify({ ...totals, ...moving.guest.counts })}`)
    } catch (error) {
      throw new Error(`SEED=${seed}, ${JSON.stringify(totals)}: ${(error as Error).message}`, { cause: error })
    }
  })
})

/** One move to its end. Resolves to how many processes were killed. */
async function moveUnderKills(moving: MovingDisk, from: Site, to: Site, random: Random): Promise<number> {
  const { guest } = moving
  let kills = 0
  let isOver = false
  const killing = async () => {
    for (let left = killsAMove.least + random.integer(killsAMove.spread); left > 0 && !isOver; ) {
      await pause(random.integer(600)) // An instant from the seed, not a wait for anything.
      const victims = random.pick([[from], [to], [to], [from, to]])
      await Promise.all(victims.map((site) => site.kill()))
      await pause(random.integer(100))
      await Promise.all(victims.map((site) => site.restart()))
      kills += victims.length
      left -= victims.length
      guest.check()
    }
  }
  const moves = async () => {
    await taken(from, to, maxRate)
    moving.guestAt = to
    guest.start()
    await completed(from, to)
    isOver = true
  }
  await Promise.all([killing(), moves()])
  await guest.stop()
  await verified(moving, to, from)
  return kills
}
