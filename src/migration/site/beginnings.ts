// Begins migrations, here or by asking the site that has the disk, and takes back those that could not be prepared.
//
// What always holds: the migration is on record, and all its disks in it by the same commit, before the destination hears of it. Until it is
// prepared the disks are owned here; a beginning that fails leaves nothing behind, or is taken back for as long as that takes.

import { maximumEntries } from '../../deed/deed.ts'
import { nextOfTroubled } from '../../disk/acceptance.ts'
import type { Disk } from '../../disk/disk.ts'
import { commitTogether } from '../../disk/plan.ts'
import { Refusal } from '../../disk/refusal.ts'
import { LinkError, PeerRefusal } from '../../link/channel.ts'
import type { MigrationRecord } from '../../store/records.ts'
import type { Course } from '../course.ts'
import { diskNames as namesOf } from '../move.ts'
import { newRecord } from '../new-record.ts'
import { asRefusal, clientAtWork, isElsewhere, notUndone, perhapsBegun } from '../refusals.ts'
import { atWork } from '../source/attached.ts'
import { SourceCourse } from '../source/source-course.ts'
import type { Terms } from '../terms.ts'
import { prepareTimeoutMs, reachPeer, withinTime } from '../within-time.ts'
import type { Roster } from './roster.ts'
import type { MigrationsServices, PeerFacts } from './services.ts'

const undoRetryMs = 5000
/** `given`, and `released`. */
const entriesOfMove = 2

export class Beginnings {
  readonly #services: MigrationsServices
  readonly #roster: Roster

  constructor(services: MigrationsServices, roster: Roster) {
    this.#services = services
    this.#roster = roster
  }

  /** Has a peer start the migration of disks of its own to this site. Resolves to the course here. @throws Refusal */
  async request(diskNames: readonly string[], peer: PeerFacts, terms: Terms, signal: AbortSignal): Promise<Course> {
    const { clock, counterpart } = this.#services
    const named = diskNames.join(', ')
    await reachPeer(this.#services, peer, named, signal)
    try {
      const id = await withinTime(clock, prepareTimeoutMs, signal, (limited) =>
        counterpart(peer.id).request(diskNames, terms, limited),
      )
      return this.#roster.course(id)
    } catch (error) {
      if (error instanceof LinkError) throw perhapsBegun(named, peer.name, error)
      throw asRefusal(error, named, peer.name)
    }
  }

  /** Starts the migration of disks of this site, which pass together. Throws, and then nothing has changed. */
  async start(diskNames: readonly string[], peer: PeerFacts, terms: Terms, signal: AbortSignal): Promise<SourceCourse> {
    const { counterpart, newId, clock, records } = this.#services
    this.#movable(diskNames)
    await reachPeer(this.#services, peer, diskNames.join(', '), signal)
    const disks = this.#movable(diskNames) // The world may have changed meanwhile.
    const found = terms.switchover === 'now' && !terms.force ? atWork(disks) : undefined
    if (found) throw clientAtWork(found.disk.name, found.why, true)
    const id = newId()
    const record = newRecord({
      id,
      role: 'source',
      state: 'preparing',
      disks: disks.map((disk) => disk.record),
      owner: this.#services.siteId,
      peer,
      transport: this.#services.transport(peer.id),
      terms,
      startedAt: clock.date().toISOString(),
      peerDecides: disks.every(({ id: disk }) => this.#services.rights(peer.id).maySayWhen(disk)),
    })
    await joinAll(disks, record)
    const course = new SourceCourse(this.#services, disks, record, counterpart(peer.id))
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
      const elsewhere = disks.find((disk) => disk.isVoid)
      if (elsewhere) throw isElsewhere(elsewhere)
      if (error instanceof PeerRefusal) {
        this.#roster.past.forget(id)
        await records.commit([{ remove: 'migration', id }])
      }
      throw asRefusal(error, namesOf(record), peer.name)
    }
    return course
  }

  /** The disks of these names, each of which may be moved now. @throws Refusal */
  #movable(diskNames: readonly string[]): readonly Disk[] {
    const disks = diskNames.map((name) => this.#services.disks.named(name))
    const twice = disks.find((disk, index) => disks.indexOf(disk) !== index)
    if (twice) {
      const facts = { disk: twice.name, safe: 'Nothing was changed.', next: 'Name each disk once.' }
      throw new Refusal('same-disk', `${twice.name} is named twice`, facts)
    }
    for (const disk of disks) checkMovable(disk)
    return disks
  }

  /** Takes a beginning back, however long it takes: the file system may be full. The disks are owned here all the while. */
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
    if (course.ended) return true // A disk of it was superseded meanwhile.
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
      `${disk.name} is in a migration already`,
    )
  }
  const { name, state } = disk
  const entries = disk.record.deed?.length ?? 0
  if (entries + entriesOfMove > maximumEntries)
    refuse(
      'deed-full',
      `the deed of ${name} has ${entries} entries, and one has at most ${maximumEntries}: it has moved as often as a disk can`,
      `Make a new disk of it: vmstore disk export ${name}, then vmstore disk create NEW --from FILE.`,
    )
  if (state !== 'owned') {
    const next = 'Move it from the site that owns it.'
    const toPeer = `${name} is ${state} there, not owned`
    refuse('not-owned', `${name} is ${state} here, not owned`, next, toPeer)
  }
  const toPeer = `${disk.name} is in trouble there, which its operator has to look at first`
  if (disk.lostPower) refuse('power-lost', `${disk.name}: ${disk.trouble}`, nextOfTroubled(disk), toPeer)
  if (disk.trouble) refuse('disk-failed', `${disk.name}: ${disk.trouble}`, nextOfTroubled(disk), toPeer)
}

/** All of them are in the migration from now on. Each is claimed in the step in which it was looked at. */
async function joinAll(disks: readonly Disk[], record: MigrationRecord): Promise<void> {
  using claims = new DisposableStack()
  for (const disk of disks) claims.use(disk.reserve('a migration of it begins'))
  const joined = disks.map((disk) => disk.joinMigration(record.id))
  await commitTogether(joined, [{ put: 'migration', record }])
}
