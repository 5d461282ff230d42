// The migrations of a site, put together: they begin in beginnings.ts, what operators ask of those under way goes to
// commands.ts, what the last daemon left is taken up (resumption.ts), and here the course is found that a peer's message is for.
//
// What always holds: a peer sees only migrations that it is part of; to it, others do not exist. Until every migration that
// the last daemon left is known nothing is said of any.

import type { Disk } from '../../disk/disk.ts'
import { Refusal } from '../../disk/refusal.ts'
import { type FetchRequest, type PeerHandlers, PeerRefusal, type Piece, type Urgency } from '../../link/channel.ts'
import type { DiskRecord, MigrationRecord } from '../../store/records.ts'
import type { Course } from '../course.ts'
import { startingCode } from '../destination/remote-blocks.ts'
import { migrationMessage, prepareMessage, requestMessage, type StandingAnswer } from '../messages.ts'
import { onlyDisk } from '../move.ts'
import type { Supersession } from '../supersession.ts'
import { admit } from './admission.ts'
import { Beginnings } from './beginnings.ts'
import { Commands } from './commands.ts'
import { Generations } from './generations.ts'
import { takeUpAll } from './resumption.ts'
import { Roster } from './roster.ts'
import type { MigrationsServices } from './services.ts'

export class Migrations implements PeerHandlers {
  readonly #services: MigrationsServices
  readonly #roster: Roster
  /** Where migrations begin. */
  readonly beginnings: Beginnings
  /** What operators may do with those under way. */
  readonly commands: Commands
  /** What peers know of the disks of this site. */
  readonly generations: Generations

  /** `onCourse` is called for each course that begins or is taken up. */
  constructor(services: MigrationsServices, onCourse: (course: Course) => void = () => {}) {
    this.#services = services
    this.#roster = new Roster(services, onCourse)
    this.beginnings = new Beginnings(services, this.#roster)
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

  courses(): readonly Course[] {
    return this.#roster.courses()
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

  /** Ends everything in memory. */
  stop(): Promise<void> {
    return this.#roster.stop()
  }

  // ---- PeerHandlers

  async call(peerId: string, method: string, params: unknown, signal: AbortSignal): Promise<object> {
    this.#refuseUntilTakenUp()
    if (method === 'prepare') return admit(this.#services, this.#roster, peerId, prepareMessage.parse(params))
    if (method === 'request') return this.#requested(peerId, params, signal)
    if (method === 'generations') return this.generations.answer(peerId, params)
    const { migration } = migrationMessage.parse(params)
    if (method === 'standing') return this.#standing(peerId, migration)
    const course = this.#roster.get(migration)
    if (course?.record.peerId === peerId) return course.answer(method, params)
    return this.#roster.past.answer(peerId, migration, method)
  }

  async *fetch(peerId: string, request: FetchRequest, urgency: Urgency, signal: AbortSignal): AsyncGenerator<Piece> {
    this.#refuseUntilTakenUp()
    const course = this.#roster.source(request.migration)
    if (course?.record.peerId !== peerId) {
      this.#roster.past.refuseSuperseded(peerId, request.migration, request.generation)
      throw new PeerRefusal('no-right', `there is no migration ${request.migration} to fetch for`)
    }
    yield* course.fetch(request, urgency, signal)
  }

  // ----

  #refuseUntilTakenUp(): void {
    if (!this.#roster.isTakenUp) throw new PeerRefusal(startingCode, 'that site is starting: ask again')
  }

  /** What this site has of a disk that a peer gave away to it. */
  #standing(peerId: string, migration: string): StandingAnswer {
    const record = this.#roster.get(migration)?.record ?? this.past().find(({ id }) => id === migration)
    if (record?.peerId !== peerId || record.role !== 'destination') return { state: 'unknown', generation: 0 }
    return { state: record.state, generation: onlyDisk(record).generation }
  }

  async #requested(peerId: string, params: unknown, signal: AbortSignal): Promise<object> {
    const { disk, terms } = requestMessage.parse(params)
    try {
      const course = await this.beginnings.start([disk], this.#services.peer(peerId), terms, signal)
      return { migration: course.id }
    } catch (error) {
      if (error instanceof Refusal) throw new PeerRefusal(error.code, error.toPeer)
      throw error
    }
  }
}
