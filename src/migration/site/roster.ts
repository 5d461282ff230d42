// Which migrations this site has: those under way, each with its course, and those that are over. Keeps the link to a peer
// up for as long as a migration with it is under way.
//
// What always holds:
// - A migration has a course, or is of the past; when its course ends it goes from the one to the other in the same step.
// - A source that does not know yet that its migration is over is told, however long that takes.

import type { Disk } from '../../disk/disk.ts'
import { Refusal } from '../../disk/refusal.ts'
import type { MigrationRecord } from '../../store/records.ts'
import { type Course, endedStates } from '../course.ts'
import type { DestinationCourse } from '../destination/destination-course.ts'
import { diskNames, onlyDisk } from '../move.ts'
import type { SourceCourse } from '../source/source-course.ts'
import type { Supersession } from '../supersession.ts'
import { tellSource } from './afterword.ts'
import { Fencing } from './fencing.ts'
import { PastMigrations } from './past.ts'
import type { MigrationsServices } from './services.ts'

/** Migrations that are over and are still shown. */
const keptPast = 1000

export class Roster {
  readonly #services: MigrationsServices
  readonly #courses = new Map<string, Course>()
  /** Of these, by what this site is to them. */
  readonly #sources = new Map<string, SourceCourse>()
  readonly #destinations = new Map<string, DestinationCourse>()
  readonly #kept = new Map<string, Disposable>()
  readonly #fencing: Fencing
  #isTakenUp = false
  readonly #stopping = new AbortController()
  readonly past: PastMigrations
  readonly #onCourse: (course: Course) => void

  /** `onCourse` is called for each course that is added. */
  constructor(services: MigrationsServices, onCourse: (course: Course) => void) {
    this.#services = services
    this.#onCourse = onCourse
    this.past = new PastMigrations(services.siteId)
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

  courses(): readonly Course[] {
    return [...this.#courses.values()]
  }

  sources(): readonly SourceCourse[] {
    return [...this.#sources.values()]
  }

  destinations(): readonly DestinationCourse[] {
    return [...this.#destinations.values()]
  }

  /** By its whole id. */
  get(id: string): Course | undefined {
    return this.#courses.get(id)
  }

  /** By its whole id. */
  source(id: string): SourceCourse | undefined {
    return this.#sources.get(id)
  }

  /** By id, or an unambiguous beginning of it. @throws Refusal `migration-unknown` */
  course(id: string): Course {
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

  addSource(course: SourceCourse): void {
    this.#sources.set(course.id, course)
    this.#add(course)
  }

  addDestination(course: DestinationCourse): void {
    this.#destinations.set(course.id, course)
    this.#add(course)
  }

  #add(course: Course): void {
    this.#courses.set(course.id, course)
    if (this.#isTakenUp) this.#keepLink(course)
    course.listen((event) => {
      if (event.kind !== 'ended') return
      this.drop(course)
      if (course.disk.state !== 'gone') return
      this.#services.disks.remove(course.disk).catch((error: unknown) => {
        this.#services.log(
          'error',
          { disk: course.disk.name, error: String(error) },
          'a cancelled disk could not be removed',
        )
      })
    })
    this.#onCourse(course)
  }

  drop(course: Course): void {
    for (const courses of [this.#courses, this.#sources, this.#destinations]) courses.delete(course.id)
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

  #keepLink(course: Course): void {
    if (!this.#kept.has(course.id)) this.#kept.set(course.id, this.#services.keep(course.record.peerId))
  }

  async #tellSource(record: MigrationRecord): Promise<void> {
    const { channel, keep } = this.#services
    using _link = keep(record.peerId)
    const told = await tellSource({
      ...this.#services,
      record,
      channel: channel(record.peerId),
      signal: this.stopping,
      superseded: async (by) => {
        const disk = this.#services.disks.get(onlyDisk(record).id)
        if (disk?.state === 'owned') await this.supersede(disk, by)
      },
    })
    this.past.add(told)
  }
}
