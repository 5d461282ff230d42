// The migrations of a site, put together: they begin in beginnings.ts, what operators ask of those under way goes to
// commands.ts, what the last daemon left is taken up (resumption.ts), and here the course is found that a peer's message is for.
//
// What always holds: a peer sees only migrations that it is part of; to it, others do not exist. Until every migration that
// the last daemon left is known nothing is said of any.

import type { Disk } from '../../disk/disk.ts'
import { PeerRefusal } from '../../link/channel.ts'
import type { DiskRecord, MigrationRecord } from '../../store/records.ts'
import { startingCode, unknownMigrationCode } from '../codes.ts'
import type { DestinationStanding, SiteDesk } from '../counterpart.ts'
import type { Supersession } from '../supersession.ts'
import { admit } from './admission.ts'
import { Beginnings } from './beginnings.ts'
import { Commands } from './commands.ts'
import { Estimates } from './estimates.ts'
import { Generations } from './generations.ts'
import { PastSource } from './past-source.ts'
import type { Placed } from './placements.ts'
import { beginForPeer } from './requests.ts'
import { takeUpAll } from './resumption.ts'
import { Roster } from './roster.ts'
import type { MigrationsServices } from './services.ts'
import type { SiteCourse } from './site-course.ts'

export class Migrations {
  readonly #services: MigrationsServices
  readonly #roster: Roster
  /** Where migrations begin. */
  readonly beginnings: Beginnings
  /** What they would cost. */
  readonly estimates: Estimates
  /** What operators may do with those under way. */
  readonly commands: Commands
  /** What peers know of the disks of this site. */
  readonly generations: Generations

  /** `onCourse` is called for each course that begins or is taken up. */
  constructor(services: MigrationsServices, onCourse: (course: SiteCourse) => void = () => {}) {
    this.#services = services
    this.#roster = new Roster(services, onCourse)
    this.beginnings = new Beginnings(services, this.#roster)
    this.estimates = new Estimates(services, this.#roster, this.beginnings)
    this.commands = new Commands(services, this.#roster)
    const parts = {
      ...services,
      migrations: () => [...this.past(), ...this.courses().map((course) => course.record)],
      supersede: (disk: Disk, by: Supersession) => this.#roster.supersede(disk, by),
      confirmed: (peerId: string) =>
        Promise.all(
          this.#roster.destinations().map((course) => (course.record.peerId === peerId ? course.confirmed : undefined)),
        ),
    }
    this.generations = new Generations(parts, this.#roster.stopping)
  }

  courses(): readonly SiteCourse[] {
    return this.#roster.courses()
  }

  /** What a peer has moved to this site. */
  placedBy(peerId: string): Placed {
    return this.#roster.placedBy(peerId)
  }

  past(): readonly MigrationRecord[] {
    return this.#roster.past.all()
  }

  /** Opens the disks that are on their way here, and goes on with every migration. Other disks are open already. */
  takeUp(records: readonly MigrationRecord[], diskRecords: readonly DiskRecord[]): Promise<void> {
    const parts = { services: this.#services, roster: this.#roster, beginnings: this.beginnings, diskRecords }
    return takeUpAll(parts, records)
  }

  /** The link to a peer is up, or is not any more: for whoever watches migrations with it. */
  linkChanged(peerId: string, isUp: boolean): void {
    for (const course of this.courses()) if (course.record.peerId === peerId) course.linkChanged(isUp)
  }

  /** Records of migrations that are over, in which a site has another key than before: they are durable already. */
  renamed(records: readonly MigrationRecord[]): void {
    for (const record of records) this.#roster.remember(record)
  }

  /** Removes a disk with its bytes. Its deed stays, so that older copies of it elsewhere are known by it. */
  async remove(disk: Disk): Promise<void> {
    const kept = this.#roster.past.withDeedOf(disk.record)
    await this.#services.disks.remove(
      disk,
      kept.map((record) => ({ put: 'migration', record })),
    )
    for (const record of kept) this.#roster.past.add(record)
  }

  /** Ends everything in memory. */
  stop(): Promise<void> {
    return this.#roster.stop()
  }

  /** What a peer may ask and say here. @throws PeerRefusal until every migration that the last daemon left is known */
  desk(peerId: string): SiteDesk {
    if (!this.#roster.isTakenUp) throw new PeerRefusal(startingCode, 'that site is starting: ask again')
    return {
      generations: async (claims) => this.generations.answer(peerId, claims),
      deed: async (disk, head) => this.generations.deedFor(peerId, disk, head),
      request: (disks, terms, signal) =>
        beginForPeer(this.#services, this.beginnings, peerId, { disks, terms }, signal),
      estimate: (disks, terms) => this.estimates.answer(peerId, disks, terms),
      prepare: (preparation, signal) =>
        admit(this.#services, this.#roster, peerId, preparation, (id) => this.generations.deedOf(id), signal),
      standing: async (migration) => this.#standing(peerId, migration),
      source: (migration) => {
        const course = this.#courseWith(peerId, migration)
        if (!course)
          return new PastSource(this.#roster.past, this.#services.siteId, peerId, migration, (id) =>
            this.generations.deedOf(id),
          )
        if (course.role === 'source') return course.desk
        throw new PeerRefusal('not-the-source', `that site is the destination of migration ${migration}`)
      },
      destination: (migration) => {
        const course = this.#courseWith(peerId, migration)
        if (course?.role === 'destination') return course.desk
        throw new PeerRefusal(unknownMigrationCode, `no migration ${migration} to that site is under way`)
      },
    }
  }

  // ----

  #courseWith(peerId: string, migration: string): SiteCourse | undefined {
    const course = this.#roster.get(migration)
    return course?.record.peerId === peerId ? course : undefined
  }

  /** What this site has of a disk that a peer gave away to it. */
  #standing(peerId: string, migration: string): DestinationStanding {
    const record = this.#roster.get(migration)?.record ?? this.past().find(({ id }) => id === migration)
    if (record?.peerId !== peerId || record.role !== 'destination') return { state: 'unknown', disks: [] }
    return { state: record.state, disks: record.disks.map(({ id, generation }) => ({ disk: id, generation })) }
  }
}
