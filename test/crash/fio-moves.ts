// Moves of a disk on which fio works as behind a hypervisor, at the source until the destination is ready, then at the
// destination; its first write there is the switchover. Sites die meanwhile.

import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'
import { afterwards, attach, begin, createDisk, refusedWith, type Site, twoSites, until } from '../e2e/sites.ts'
import type { Random } from '../random.ts'
import { FioGuest, type FioGuestOptions } from './fio-guest.ts'
import { assertOneOwner, completed, diskAt, diskName, servesNobody } from './moves.ts'

const mebibyte = 2 ** 20
const sizeBytes = 12 * mebibyte
/** The copy takes two seconds, so that a guest works while it runs. */
const maxRate = 6 * mebibyte
const readyDeadlineMs = 60_000
const crashDeadlineMs = 60_000

export interface FioMove {
  readonly a: Site
  readonly b: Site
  readonly guest: FioGuest
}

/** Two sites, a disk at A, and fio, which has not begun. */
export async function diskForFio(seed: number, options: Pick<FioGuestOptions, 'flushEvery'> = {}): Promise<FioMove> {
  const { a, b } = await twoSites()
  await createDisk(a, diskName, sizeBytes)
  const guest = new FioGuest({ diskName, sizeBytes, seed, ...options })
  afterwards(() => guest.kill())
  return { a, b, guest }
}

/** Begins the move, and again whenever a site that died has cancelled it, until the destination is ready to take. */
async function ready(from: Site, to: Site): Promise<void> {
  const look = async () => {
    const [here, there] = await Promise.all([diskAt(from), diskAt(to)])
    assertOneOwner(here, there)
    if (here?.migration && there?.state === 'incoming') {
      const view = await from.control.showMigration(here.migration).catch(() => undefined) // Dead again.
      return view?.state === 'ready' ? true : undefined
    }
    const isIdle = here?.state === 'owned' && here.migration === null && there?.state !== 'incoming'
    if (isIdle && to.isRunning) await begin(from, to, diskName, 'auto', { maxRate }).catch(() => {}) // Looked at again.
    return undefined
  }
  await until(`${to.name} is ready to take the disk`, look, readyDeadlineMs)
}

/** The guest, which works at `from`, is moved to `to`, works there while the disk arrives, and once it is owned. */
async function moved({ guest }: FioMove, from: Site, to: Site): Promise<void> {
  await ready(from, to)
  await guest.worked(1)
  await guest.stop()
  await guest.start(to)
  await completed(from, to)
  await guest.worked(1)
}

/** What fio wrote is at `owner`, all of it, and `other` serves nobody. The guest has been stopped. */
export async function verified({ guest }: FioMove, owner: Site, other: Site): Promise<void> {
  await guest.verify(owner)
  await servesNobody(other)
}

/** One move from A to B in which `victim` dies at the point, and `together` with it. */
export async function crashUnderFio(
  side: 'source' | 'destination',
  point: string,
  seed: number,
  together = false,
): Promise<void> {
  const move = await diskForFio(seed)
  const { a, b, guest } = move
  const [victim, other] = side === 'source' ? [a, b] : [b, a]
  await victim.stop()
  await victim.restart(point)
  await guest.start(a)
  const revived = victim.crashed(crashDeadlineMs).then(async () => {
    if (together) await other.kill()
    await Promise.all([victim.restart(), together && other.restart()])
  })
  await Promise.all([revived, moved(move, a, b)])
  await guest.stop()
  await verified(move, b, a)
}

/** A switchover that the source does not survive: it dies with its guest's requests held, and the move is cancelled. */
export async function crashInFreeze(point: string, seed: number): Promise<void> {
  const move = await diskForFio(seed, { flushEvery: 0 })
  const { a, b, guest } = move
  await a.stop()
  await a.restart(point)
  await guest.start(a)
  await guest.worked(1)
  await begin(a, b, diskName, 'now', { maxRate }).catch(() => {}) // It may die before it has answered.
  await a.crashed(crashDeadlineMs)
  await cancelledAndMoved(move)
}

/** A switchover that a write at the destination asks for, while the guest works at the source; it is refused, both die. */
export async function crashAfterRefusal(seed: number): Promise<void> {
  const move = await diskForFio(seed)
  const { a, b, guest } = move
  await guest.start(a)
  await guest.worked(1)
  await begin(a, b, diskName, 'auto', { maxRate, switchoverWaitMs: 500 })
  const stray = await attach(b, diskName)
  await refusedWith('EPERM', stray.write(0, Buffer.alloc(512)))
  await guest.worked(1)
  await a.kill()
  await cancelledAndMoved(move)
}

/** The source has died, and the destination does; the move is cancelled, and another one comes to its end. */
async function cancelledAndMoved(move: FioMove): Promise<void> {
  const { a, b, guest } = move
  await b.kill() // It would ask for the disk again, under a guest that works at A.
  await a.restart()
  const { state, migration } = await a.control.showDisk(diskName)
  assert(state === 'owned' && migration, 'the source goes on owning, and is to be asked for the disk again')
  await a.control.cancel(migration, { force: false })
  await b.restart()
  await moved(move, a, b)
  await guest.stop()
  await verified(move, b, a)
}

/** A move to its end under kills at random instants, at the source and then at the destination. Resolves to how many. */
export async function moveUnderKills(move: FioMove, from: Site, to: Site, random: Random): Promise<number> {
  const { guest } = move
  const killsAtSource = 2 + random.integer(3)
  const killsAtDestination = 4 + random.integer(5)
  await Promise.all([killed(killsAtSource, from, to, random), ready(from, to)])
  await guest.stop()
  await guest.start(to)
  await Promise.all([killed(killsAtDestination, from, to, random), completed(from, to)])
  await guest.worked(1)
  return killsAtSource + killsAtDestination
}

/** So many times, at random instants, one of the sites dies, or both do, and is started again. */
async function killed(times: number, from: Site, to: Site, random: Random): Promise<void> {
  for (let left = times; left > 0; left--) {
    await pause(300 + random.integer(1200)) // An instant from the seed, not a wait for anything.
    const victims = random.pick([[from], [to], [from, to]])
    await Promise.all(victims.map((site) => site.kill()))
    await pause(random.integer(100))
    await Promise.all(victims.map((site) => site.restart()))
  }
}
