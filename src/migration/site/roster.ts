// Which migrations this site has: those under way, each with its course, and those that are over. Keeps the link to a peer
// up for as long as a migration with it is under way.
//
// What always holds:
// - A migration has a course, or is of the past; when its course ends it goes from the one to the other in the same step.
// - A source that does not know yet that its migration is over is told, however long that takes.

import type { DeedEntry } from '../../deed/entries.ts'
import type { Disk } from '../../disk/disk.ts'
import { commitTogether } from '../../disk/plan.ts'
import { Refusal } from '../../disk/refusal.ts'
import type { MigrationRecord } from '../../store/records.ts'
import { endedStates } from '../course.ts'
import { askDeed, withRelease } from '../deeds.ts'
import type { DestinationCourse } from '../destination/destination-course.ts'
import { diskNames } from '../move.ts'
import type { SourceCourse } from '../source/source-course.ts'
import { type Supersession, supersessionBy } from '../supersession.ts'
import { tellSource } from './afterword.ts'
import { Fencing } from './fencing.ts'
import { PastMigrations } from './past.ts'
import type { MigrationsServices } from './services.ts'
import type { SiteCourse } from './site-course.ts'

/** Migrations that are over and are still shown. */
const keptPast = 1000

export class Roster {
  readonly #services: MigrationsServices
  readonly #courses = new Map<string, SiteCourse>()
  readonly #kept = new Map<string, Disposable>()
  readonly #fencing: Fencing
  #isTakenUp = false
  readonly #stopping = new AbortController()
  readonly past: PastMigrations
  readonly #onCourse: (course: SiteCourse) => void

  /** `onCourse` is called for each course that is added. */
  constructor(services: MigrationsServices, onCourse: (course: SiteCourse) => void) {
    this.#services = services
    this.#onCourse = onCourse
    this.past = new PastMigrations()
    this.#fencing = new Fencing(services, this)
  }

  /** Aborts when this site stops. */
  get stopping(): AbortSignal {
    return this.#stopping.signal
  }

  /** Every migration that the last daemon left is known here: before, nothing may be said of any. */
  get isTakenUp(): boolean {
    return this.#isTakenUp
  }

  courses(): readonly SiteCourse[] {
    return [...this.#courses.values()]
  }

  sources(): readonly SourceCourse[] {
    return this.courses().filter((course) => course.role === 'source')
  }

  destinations(): readonly DestinationCourse[] {
    return this.courses().filter((course) => course.role === 'destination')
  }

  /** By its whole id. */
  get(id: string): SiteCourse | undefined {
    return this.#courses.get(id)
  }

  /** By id, or an unambiguous beginning of it. @throws Refusal `migration-unknown` */
  course(id: string): SiteCourse {
    const found = this.courses().filter((course) => course.id.startsWith(id))
    if (found.length === 1 && id !== '') return found[0]!
    const aside = this.past
      .all()
      .find((record) => id !== '' && record.id.startsWith(id) && !endedStates.includes(record.state))
    if (aside) {
      throw new Refusal('migration-stopped', `migration ${aside.id} of ${diskNames(aside)} is ${aside.note}`, {
        disk: diskNames(aside),
        safe: 'Nothing was changed.',
        next: 'Mend what keeps it from going on, and start vmstore again.',
      })
    }
    throw new Refusal('migration-unknown', `there is no migration under way with id ${id || '(empty)'} here`, {
      next: 'See the migrations of this site: vmstore migration list.',
    })
  }

  /** Every migration that the last daemon left has been added. */
  takenUp(): void {
    this.#isTakenUp = true
    for (const course of this.courses()) this.#keepLink(course)
  }

  add(course: SiteCourse): void {
    this.#courses.set(course.id, course)
    if (this.#isTakenUp) this.#keepLink(course)
    course.listen((event) => {
      if (event.kind !== 'ended') return
      this.drop(course)
      for (const disk of course.disks) if (disk.state === 'gone') this.#remove(disk)
    })
    this.#onCourse(course)
  }

  #remove(disk: Disk): void {
    const { disks, log } = this.#services
    disks.remove(disk).catch((error: unknown) => {
      log('error', { disk: disk.name, error: String(error) }, 'a cancelled disk could not be removed')
    })
  }

  drop(course: SiteCourse): void {
    this.#courses.delete(course.id)
    this.remember(course.record)
    this.#kept.get(course.id)?.[Symbol.dispose]()
    this.#kept.delete(course.id)
  }

  /** A migration that is over. If its source does not know it yet, it is told when it comes back. */
  remember(record: MigrationRecord): void {
    this.past.add(record)
    for (const { id } of this.past.surplus(keptPast)) {
      this.past.forget(id)
      this.#services.records.commit([{ remove: 'migration', id }]).catch(() => {}) // The next start finds it again.
    }
    if (record.role !== 'destination' || record.state !== 'done' || record.sourceTold) return
    void this.#tellSource(record).catch(() => {}) // This site is stopping: the next start goes on with it.
  }

  /** A later generation of the disk exists elsewhere (fencing.ts). Rejects only when this site stops. */
  supersede(disk: Disk, by: Supersession): Promise<void> {
    return this.#fencing.supersede(disk, by)
  }

  /** Ends everything in memory. */
  async stop(): Promise<void> {
    const courses = this.courses()
    this.#stopping.abort(new Error('this site is stopping'))
    for (const course of courses) course.stop()
    for (const kept of this.#kept.values()) kept[Symbol.dispose]()
    await Promise.all(courses.map((course) => course.settled()))
  }

  #keepLink(course: SiteCourse): void {
    if (!this.#kept.has(course.id)) this.#kept.set(course.id, this.#services.keep(course.record.peerId))
  }

  async #tellSource(record: MigrationRecord): Promise<void> {
    const { counterpart, keep } = this.#services
    using _link = keep(record.peerId)
    const told = await tellSource({
      ...this.#services,
      record,
      source: counterpart(record.peerId).source(record.id),
      signal: this.stopping,
      proof: (id) => this.#proof(record.peerId, id),
      released: (entries) => this.#noteReleases(record, entries),
      superseded: async (id, by) => {
        const disk = this.#services.disks.get(id)
        if (disk?.state === 'owned') await this.supersede(disk, by)
      },
    })
    this.past.add(told)
  }

  async #proof(peerId: string, diskId: string): Promise<Supersession | undefined> {
    const { clock, counterpart, disks, siteOf } = this.#services
    const theirs = await askDeed(counterpart(peerId), diskId, { clock, signal: this.stopping })
    const disk = disks.get(diskId)
    if (disk?.state === 'superseded') return disk.record // It was heard before, and is on record.
    const ours = disk?.record.deed
    return ours ? supersessionBy(ours, theirs, siteOf) : undefined
  }

  /** Nothing depends on it: where it cannot be recorded now, it is heard of again (generations.ts). */
  async #noteReleases({ disks }: MigrationRecord, entries: readonly DeedEntry[]): Promise<void> {
    for (const { id } of disks) {
      const disk = this.#services.disks.get(id)
      const deed = disk?.state === 'owned' ? withRelease(disk.record.deed, entries) : null
      if (disk && deed && disk.record.migrationId === null) await commitTogether([disk.noteDeed(deed)]).catch(() => {})
    }
  }
}
