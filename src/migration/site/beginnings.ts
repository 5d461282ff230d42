// Begins migrations, here or by asking the site that has the disk, and takes back those that could not be prepared.
//
// What always holds: the migration is on record, and its disk in it, before the destination hears of it. Until it is
// prepared the disk is owned here; a beginning that fails leaves nothing behind, or is taken back for as long as that takes.

import { nextOfTroubled } from '../../disk/acceptance.ts'
import type { Disk } from '../../disk/disk.ts'
import { commitTogether } from '../../disk/plan.ts'
import { Refusal } from '../../disk/refusal.ts'
import { LinkError, PeerRefusal } from '../../link/channel.ts'
import type { Course } from '../course.ts'
import { only } from '../move.ts'
import { newRecord } from '../new-record.ts'
import { asRefusal, clientAtWork, isElsewhere, notUndone, perhapsBegun } from '../refusals.ts'
import { SourceCourse } from '../source/source-course.ts'
import type { Terms } from '../terms.ts'
import { prepareTimeoutMs, reachPeer, withinTime } from '../within-time.ts'
import type { Roster } from './roster.ts'
import type { MigrationsServices, PeerFacts } from './services.ts'

const undoRetryMs = 5000

export class Beginnings {
  readonly #services: MigrationsServices
  readonly #roster: Roster

  constructor(services: MigrationsServices, roster: Roster) {
    this.#services = services
    this.#roster = roster
  }

  /** Has a peer start the migration of disks of its own to this site. Resolves to the course here. @throws Refusal */
  async request(diskNames: readonly string[], peer: PeerFacts, terms: Terms, signal: AbortSignal): Promise<Course> {
    const diskName = only(diskNames)
    const { clock, counterpart } = this.#services
    await reachPeer(this.#services, peer, diskName, signal)
    try {
      const id = await withinTime(clock, prepareTimeoutMs, signal, (limited) =>
        counterpart(peer.id).request([diskName], terms, limited),
      )
      return this.#roster.course(id)
    } catch (error) {
      if (error instanceof LinkError) throw perhapsBegun(diskName, peer.name, error)
      throw asRefusal(error, diskName, peer.name)
    }
  }

  /** Starts the migration of disks of this site, which pass together. Throws, and then nothing has changed. */
  async start(diskNames: readonly string[], peer: PeerFacts, terms: Terms, signal: AbortSignal): Promise<SourceCourse> {
    const diskName = only(diskNames)
    const { disks, newId, clock, records } = this.#services
    checkMovable(disks.named(diskName))
    await reachPeer(this.#services, peer, diskName, signal)
    const disk = disks.named(diskName)
    checkMovable(disk) // The world may have changed meanwhile.
    const why = terms.switchover === 'now' && !terms.force ? disk.sessions.attachedReason() : undefined
    if (why !== undefined) throw clientAtWork(disk.name, why, true)
    const reservation = disk.reserve('a migration of it begins')
    const id = newId()
    const record = newRecord({
      id,
      role: 'source',
      state: 'preparing',
      disks: [disk.record],
      owner: this.#services.siteId,
      peer,
      transport: this.#services.transport(peer.id),
      terms,
      startedAt: clock.date().toISOString(),
    })
    try {
      await commitTogether([disk.joinMigration(id)], [{ put: 'migration', record }])
    } finally {
      reservation[Symbol.dispose]()
    }
    const course = new SourceCourse(this.#services, [disk], record, this.#services.counterpart(peer.id))
    this.#roster.add(course)
    try {
      await withinTime(clock, prepareTimeoutMs, signal, (limited) => course.prepare(limited))
    } catch (error) {
      // Whatever the destination has made of it goes when it hears of this.
      if (!(await this.#cancelled(course))) {
        void this.undo(course)
        throw notUndone(course, error)
      }
      this.#roster.drop(course)
      if (disk.isVoid) throw isElsewhere(disk)
      if (error instanceof PeerRefusal) {
        this.#roster.past.forget(id)
        await records.commit([{ remove: 'migration', id }])
      }
      throw asRefusal(error, disk.name, peer.name)
    }
    return course
  }

  /** Takes a beginning back, however long it takes: the file system may be full. The disk is owned here all the while. */
  async undo(course: SourceCourse): Promise<void> {
    while (!(await this.#cancelled(course))) {
      try {
        await this.#services.clock.sleep(undoRetryMs, this.#roster.stopping)
      } catch {
        return // The next start goes on with it.
      }
    }
  }

  /** Whether a beginning could be taken back, durably. */
  async #cancelled(course: SourceCourse): Promise<boolean> {
    if (course.ended) return true // Its disk was superseded meanwhile.
    try {
      await course.cancel()
      return true
    } catch (error) {
      this.#services.log(
        'error',
        { migration: course.id, error: String(error) },
        'a beginning cannot be taken back yet',
      )
      return course.ended
    }
  }
}

/** @throws Refusal */
function checkMovable(disk: Disk): void {
  const refuse = (code: string, message: string, next: string, toPeer = message) => {
    throw new Refusal(code, message, { disk: disk.name, safe: 'Nothing was changed.', next, toPeer })
  }
  if (disk.record.migrationId !== null) {
    const id = disk.record.migrationId
    refuse(
      'migrating',
      `${disk.name} is in migration ${id} already`,
      `See how far it is: vmstore migration show ${id}.`,
    )
  }
  const { name, state } = disk
  if (state !== 'owned') {
    const next = 'Move it from the site that owns it.'
    const toPeer = `${name} is ${state} there, not owned`
    refuse('not-owned', `${name} is ${state} here, not owned`, next, toPeer)
  }
  if (disk.lostPower) refuse('power-lost', `${disk.name}: ${disk.trouble}`, nextOfTroubled(disk))
  if (disk.trouble) refuse('disk-failed', `${disk.name}: ${disk.trouble}`, nextOfTroubled(disk))
}
