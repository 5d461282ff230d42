// The migrations of a site: starts them, finds the course that a peer's message is for, and takes them all up again when
// the daemon starts. A peer sees only migrations that it is part of; to it, others do not exist.

import type { Disk } from '../disk/disk.ts'
import type { Disks } from '../disk/disks.ts'
import { Refusal } from '../disk/refusal.ts'
import {
  type FetchRequest,
  LinkError,
  type PeerChannel,
  type PeerHandlers,
  PeerRefusal,
  type Piece,
} from '../link/channel.ts'
import type { Change, DiskRecord, MigrationRecord } from '../store/records.ts'
import { tellSource } from './afterword.ts'
import type { Comparison } from './arriving-course.ts'
import type { Course, CourseServices } from './course.ts'
import { endedStates } from './course.ts'
import { DestinationCourse } from './destination-course.ts'
import { Generations } from './generations.ts'
import {
  migrationMessage,
  type PrepareMessage,
  prepareMessage,
  requestAnswer,
  requestMessage,
  type StandingAnswer,
  standingAnswer,
  type Terms,
} from './messages.ts'
import { newRecord } from './new-record.ts'
import { PastMigrations } from './past.ts'
import {
  asRefusal,
  destinationAnswers,
  notCompared,
  notConfirmed,
  nothingToCompare,
  notKnown,
  notPaused,
  notReclaimable,
  notUndone,
  perhapsBegun,
} from './refusals.ts'
import { startingCode } from './remote-blocks.ts'
import { SourceCourse } from './source-course.ts'
import type { Supersession } from './superseded.ts'

/** Another site, as a migration needs to know it. */
export interface PeerFacts {
  /** Fingerprint. */
  readonly id: string
  readonly site: string
  readonly name: string
}

export interface MigrationsServices extends CourseServices {
  readonly disks: Disks
  readonly newId: () => string
  channel(peerId: string): PeerChannel
  peer(peerId: string): PeerFacts
  /** Keeps the link to a peer up; dispose when it is needed no more. */
  keep(peerId: string): Disposable
  /** `serve --read-only`. */
  readonly readOnly: boolean
  readonly transport: (peerId: string) => string
  /** Makes one attempt to reach a peer. @throws LinkError */
  probe(peerId: string, signal: AbortSignal): Promise<void>
}

/** Free space that a new disk must leave. */
const spareBytes = 64 * 2 ** 20
const prepareTimeoutMs = 30_000
const reachTimeoutMs = 10_000
/** For what the destination is told on behalf of an operator who waits. */
const answerTimeoutMs = 5_000
/** Migrations that are over and are still shown. */
const keptPast = 1000
const undoRetryMs = 5000

export class Migrations implements PeerHandlers {
  readonly #services: MigrationsServices
  readonly #courses = new Map<string, Course>()
  readonly #past: PastMigrations
  readonly #kept = new Map<string, Disposable>()
  /** Every migration of before is known. */
  #started = false
  readonly #stopping = new AbortController()
  /** What peers know of the disks of this site. */
  readonly generations: Generations
  /** Called for each course that begins or is taken up. */
  onCourse: (course: Course) => void = () => {}

  constructor(services: MigrationsServices) {
    this.#services = services
    this.#past = new PastMigrations(services.siteId)
    const parts = {
      ...services,
      migrations: () => [...this.past(), ...this.courses().map((course) => course.record)],
      supersede: (disk: Disk, by: Supersession) => this.#supersede(disk, by),
      confirmed: (peerId: string) =>
        Promise.all(
          this.courses().map((course) =>
            course instanceof DestinationCourse && course.record.peerId === peerId ? course.confirmed : undefined,
          ),
        ),
    }
    this.generations = new Generations(parts, this.#stopping.signal)
  }

  courses(): readonly Course[] {
    return [...this.#courses.values()]
  }

  past(): readonly MigrationRecord[] {
    return this.#past.all()
  }

  /** Opens the disks that are on their way here, and goes on with every migration. Other disks are open already. */
  async takeUp(records: readonly MigrationRecord[], diskRecords: readonly DiskRecord[]): Promise<void> {
    for (const record of records) {
      const diskRecord = diskRecords.find((each) => each.id === record.diskId)
      if (endedStates.includes(record.state)) this.#remember(record)
      else if (diskRecord?.migrationId !== record.id) {
        await this.#endStray(record)
      } else if (record.role === 'source') await this.#takeUpSource(record)
      else {
        await this.#takeUpDestination(record, diskRecords).catch((error: unknown) =>
          this.#leaveAside(record, diskRecords, error),
        )
      }
    }
    // Only now is it known which migrations there are. A peer that asked before was told to ask again.
    this.#started = true
    for (const course of this.courses()) this.#keepLink(course)
  }

  /** A record whose disk is in no migration, or in another: what a commit that was reported as failed may leave. */
  async #endStray(record: MigrationRecord): Promise<void> {
    const { clock, records, log } = this.#services
    const endedAt = clock.date().toISOString()
    const ended = { ...record, state: 'failed', endedAt, note: 'it never began: its disk was not put into it' }
    this.#past.add(ended)
    log('warn', { migration: record.id, disk: record.diskName }, 'a migration that never began is ended')
    await records.commit([{ put: 'migration', record: ended }]).catch(() => {}) // The next start does it again.
  }

  /** One disk that cannot be opened stops its own migration, until the next start, and no other disk. */
  #leaveAside(record: MigrationRecord, diskRecords: readonly DiskRecord[], error: unknown): void {
    const { disks, log } = this.#services
    const reason = (error as Error).message
    const diskRecord = diskRecords.find((each) => each.id === record.diskId)
    if (diskRecord && !disks.get(record.diskId)) disks.addUnusable(diskRecord, `it cannot be opened: ${reason}`)
    this.#past.add({ ...record, note: `stopped until the next start: ${reason}` })
    log('error', { migration: record.id, disk: record.diskName, error: reason }, 'a migration cannot be taken up')
  }

  /** Starts the migration of a disk of this site. Throws, and then nothing has changed. */
  async start(diskName: string, peer: PeerFacts, terms: Terms, signal: AbortSignal): Promise<SourceCourse> {
    const { disks, newId, clock, records } = this.#services
    this.#checkMovable(diskName)
    await this.#reach(peer, diskName, signal)
    this.#checkMovable(diskName) // The world may have changed meanwhile.
    const disk = disks.named(diskName)
    const reservation = disk.reserve('a migration of it begins')
    const id = newId()
    const record = newRecord({
      id,
      role: 'source',
      state: 'preparing',
      disk: disk.record,
      peer,
      transport: this.#services.transport(peer.id),
      terms,
      startedAt: clock.date().toISOString(),
    })
    try {
      await disk.note({ migrationId: id }, [{ put: 'migration', record }])
    } finally {
      reservation[Symbol.dispose]()
    }
    const course = new SourceCourse(this.#services, disk, record, this.#services.channel(peer.id))
    this.#add(course)
    try {
      await this.#withinTime(prepareTimeoutMs, signal, (limited) => course.prepare(limited))
    } catch (error) {
      // Whatever the destination has made of it goes when it hears of this.
      if (!(await this.#cancelled(course))) {
        void this.#undo(course)
        throw notUndone(course, error)
      }
      this.#drop(course)
      if (error instanceof PeerRefusal) {
        this.#past.forget(id)
        await records.commit([{ remove: 'migration', id }])
      }
      throw asRefusal(error, disk.name, peer.name)
    }
    return course
  }

  /** Has a peer start the migration of a disk of its own to this site. Resolves to the course here. */
  async request(diskName: string, peer: PeerFacts, terms: Terms, signal: AbortSignal): Promise<Course> {
    const { channel } = this.#services
    await this.#reach(peer, diskName, signal)
    try {
      const answer = await this.#withinTime(prepareTimeoutMs, signal, (limited) =>
        channel(peer.id).call('request', { disk: diskName, terms }, { signal: limited }),
      )
      return this.course(requestAnswer.parse(answer).migration)
    } catch (error) {
      if (error instanceof LinkError) throw perhapsBegun(diskName, peer.name, error)
      throw asRefusal(error, diskName, peer.name)
    }
  }

  /** By id, or an unambiguous beginning of it. @throws Refusal `migration-unknown` */
  course(id: string): Course {
    const found = this.courses().filter((course) => course.id.startsWith(id))
    if (found.length === 1 && id !== '') return found[0]!
    const aside = this.past().find(
      (record) => id !== '' && record.id.startsWith(id) && !endedStates.includes(record.state),
    )
    if (aside) {
      throw new Refusal('migration-stopped', `migration ${aside.id} of ${aside.diskName} is ${aside.note}`, {
        disk: aside.diskName,
        safe: 'Nothing was changed.',
        next: 'Mend what keeps it from going on, and start vmstore again.',
      })
    }
    throw new Refusal('migration-unknown', `there is no migration under way with id ${id || '(empty)'} here`, {
      next: 'vmstore migration list shows the migrations of this site.',
    })
  }

  async switchover(id: string, signal: AbortSignal): Promise<Course> {
    const course = this.course(id)
    try {
      if (course instanceof SourceCourse) await course.switchover(signal)
      else if (course instanceof DestinationCourse) await course.switchover()
    } catch (error) {
      if (error instanceof LinkError) throw notKnown(course, error)
      throw asRefusal(error, course.record.diskName, this.#services.peer(course.record.peerId).name)
    }
    return course
  }

  /** Holds the background copy, durably, or lets it go on. @throws Refusal */
  async setPaused(id: string, paused: boolean, signal: AbortSignal): Promise<Course> {
    const course = this.course(id)
    try {
      if (course instanceof SourceCourse) {
        await this.#withinTime(answerTimeoutMs, signal, (limited) => course.setPaused(paused, limited))
      } else if (course instanceof DestinationCourse) await course.setPaused(paused)
    } catch (error) {
      if (error instanceof LinkError) throw notPaused(course, paused, error)
      throw asRefusal(error, course.record.diskName, this.#services.peer(course.record.peerId).name)
    }
    return course
  }

  /**
   * Takes a departed disk back because its destination is lost for good. Refused while that site answers in any way.
   * `isConfirmed`: the operator was told what is lost, and has said that the guest is off. @throws Refusal
   */
  async reclaim(diskName: string, isConfirmed: boolean, signal: AbortSignal): Promise<Disk> {
    const disk = this.#services.disks.named(diskName)
    const course = this.courses().find((each) => each instanceof SourceCourse && each.disk === disk)
    if (!(course instanceof SourceCourse) || disk.state !== 'departed') throw notReclaimable(disk)
    const count = disk.sessions.count
    if (count > 0) {
      throw new Refusal('disk-in-use', `${disk.name} has ${count} client(s) attached, of the time before it departed`, {
        disk: disk.name,
        safe: 'Nothing was changed.',
        next: 'Detach them first: once the disk is taken back they would go on with it.',
      })
    }
    const peer = this.#services.peer(course.record.peerId)
    const says = await this.#whatPeerSays(course, signal)
    if (says !== undefined) throw destinationAnswers(disk, peer.name, says)
    if (!isConfirmed) throw notConfirmed(course.record, peer.name)
    await course.reclaim()
    this.#services.log('warn', { disk: disk.name, generation: disk.record.generation }, 'the disk was taken back')
    return disk
  }

  /** undefined: it does not answer. That it cannot be understood is an answer too. */
  async #whatPeerSays(course: Course, signal: AbortSignal): Promise<string | undefined> {
    const { channel, probe } = this.#services
    const { id } = course
    try {
      const answer = await this.#withinTime(answerTimeoutMs, signal, (limited) =>
        channel(course.record.peerId).call('standing', { migration: id }, { signal: limited }),
      )
      const { state, generation } = standingAnswer.parse(answer)
      if (state === 'failed') return undefined // It says itself that it serves the disk to nobody.
      return state === 'unknown' ? `it knows nothing of migration ${id}` : `it has generation ${generation}, ${state}`
    } catch (error) {
      if (!(error instanceof LinkError)) return (error as Error).message
    }
    try {
      await this.#withinTime(answerTimeoutMs, signal, (limited) => probe(course.record.peerId, limited))
      return 'it can be reached'
    } catch (error) {
      if (error instanceof LinkError && !['protocol', 'incompatible'].includes(error.code)) return undefined
      return (error as Error).message
    }
  }

  /** Compares a disk on demand with the source that it comes from. @throws Refusal */
  async verify(diskName: string, signal: AbortSignal): Promise<{ course: Course; comparison: Comparison }> {
    const disk = this.#services.disks.named(diskName)
    const course = this.courses().find((each) => each.disk === disk)
    if (!(course instanceof DestinationCourse)) throw nothingToCompare(disk)
    const peer = this.#services.peer(course.record.peerId)
    if (disk.state === 'arriving') await this.#reach(peer, disk.name, signal)
    try {
      return { course, comparison: await course.verify(signal) }
    } catch (error) {
      if (error instanceof LinkError || error instanceof PeerRefusal) throw notCompared(disk, peer.name, error)
      throw error
    }
  }

  async cancel(id: string, force: boolean, signal: AbortSignal): Promise<Course> {
    const course = this.course(id)
    if (course instanceof SourceCourse) await course.cancel()
    else if (course instanceof DestinationCourse) {
      await this.#withinTime(prepareTimeoutMs / 3, signal, (limited) => course.cancel(force, limited))
    }
    return course
  }

  /** Ends everything in memory. */
  async stop(): Promise<void> {
    const courses = this.courses()
    this.#stopping.abort(new Error('this site is stopping'))
    for (const course of courses) course.stop()
    for (const kept of this.#kept.values()) kept[Symbol.dispose]()
    await Promise.all(courses.map((course) => (course instanceof DestinationCourse ? course.settled() : undefined)))
  }

  // ---- PeerHandlers

  async call(peerId: string, method: string, params: unknown, signal: AbortSignal): Promise<object> {
    this.#refuseUntilStarted()
    if (method === 'prepare') return this.#prepare(peerId, prepareMessage.parse(params))
    if (method === 'request') return this.#requested(peerId, params, signal)
    if (method === 'generations') return this.generations.answer(peerId, params)
    const { migration } = migrationMessage.parse(params)
    if (method === 'standing') return this.#standing(peerId, migration)
    const course = this.#courses.get(migration)
    if (course && course.record.peerId === peerId) {
      if (course instanceof SourceCourse) return course.answer(method, params)
      if (course instanceof DestinationCourse) return course.answer(method, params)
    }
    return this.#past.answer(peerId, migration, method)
  }

  async *fetch(peerId: string, request: FetchRequest, _urgency: string, signal: AbortSignal): AsyncGenerator<Piece> {
    this.#refuseUntilStarted()
    const course = this.#courses.get(request.migration)
    if (!(course instanceof SourceCourse) || course.record.peerId !== peerId) {
      this.#past.refuseSuperseded(peerId, request.migration, request.generation)
      throw new PeerRefusal('no-right', `there is no migration ${request.migration} to fetch for`)
    }
    yield* course.fetch(request, signal)
  }

  // ----

  /** What this site has of a disk that a peer gave away to it. */
  #standing(peerId: string, migration: string): StandingAnswer {
    const record = this.#courses.get(migration)?.record ?? this.#past.all().find(({ id }) => id === migration)
    if (record?.peerId !== peerId || record.role !== 'destination') return { state: 'unknown', generation: 0 }
    return { state: record.state, generation: record.generation }
  }

  /** Until it is on record nobody is served; the next start hears of it again. */
  async #supersede(disk: Disk, by: Supersession): Promise<void> {
    for (;;) {
      try {
        const course = this.courses().find((each) => each.disk === disk)
        if (course instanceof SourceCourse || course instanceof DestinationCourse) await course.supersede(by)
        else await supersedeIdle(disk, by)
        return
      } catch (error) {
        this.#stopping.signal.throwIfAborted()
        this.#services.log(
          'error',
          { disk: disk.name, error: String(error) },
          'that it is superseded is not on record yet',
        )
        await this.#services.clock.sleep(undoRetryMs, this.#stopping.signal)
      }
    }
  }

  #refuseUntilStarted(): void {
    if (!this.#started) throw new PeerRefusal(startingCode, 'this site is starting: ask again')
  }

  async #prepare(peerId: string, message: PrepareMessage): Promise<object> {
    const { disks, clock } = this.#services
    const { disk, migration, terms } = message
    if (this.#courses.has(migration)) return {} // Asked again: the answer was lost.
    if (this.#services.readOnly)
      throw new PeerRefusal('read-only', 'the destination serves read-only: it takes no disks')
    const peer = this.#services.peer(peerId)
    const gone = disks.get(disk.id)
    if (gone?.state === 'gone') await disks.remove(gone) // It could not be removed when it was cancelled.
    using _return = this.#checkReturn(message)
    using _name = this.#claimName(disk.name, disk.id)
    await this.#checkSpace(disk.name, disk.allocatedBytes)
    const createdAt = clock.date().toISOString()
    const record = newRecord({
      id: migration,
      role: 'destination',
      state: 'ready',
      disk,
      peer,
      transport: this.#services.transport(peerId),
      terms,
      startedAt: createdAt,
    })
    const facts = { ...disk, owner: peer.site, migrationId: migration, createdAt }
    const diskRecord = await disks.prepareIncoming(facts, [{ put: 'migration', record }] satisfies Change[])
    const course = await DestinationCourse.open(
      this.#services,
      record,
      this.#services.channel(peerId),
      true,
      (remote) => disks.open(diskRecord, remote),
    )
    this.#add(course)
    course.start()
    return {}
  }

  async #requested(peerId: string, params: unknown, signal: AbortSignal): Promise<object> {
    const { disk, terms } = requestMessage.parse(params)
    try {
      const course = await this.start(disk, this.#services.peer(peerId), terms, signal)
      return { migration: course.id }
    } catch (error) {
      if (error instanceof Refusal) throw new PeerRefusal(error.code, error.message)
      throw error
    }
  }

  async #takeUpSource(record: MigrationRecord): Promise<void> {
    const { disks, channel } = this.#services
    const disk = disks.get(record.diskId)
    if (!disk) throw new Error(`migration ${record.id} is recorded, its disk ${record.diskName} is not`)
    const course = new SourceCourse(this.#services, disk, record, channel(record.peerId))
    this.#add(course)
    // Nobody waits any more for a migration that was only being prepared.
    if (record.state === 'preparing') void this.#undo(course)
    else course.takeUp()
  }

  /** Whether a beginning could be taken back, durably. */
  async #cancelled(course: SourceCourse): Promise<boolean> {
    try {
      await course.cancel()
      return true
    } catch (error) {
      this.#services.log(
        'error',
        { migration: course.id, error: String(error) },
        'a beginning cannot be taken back yet',
      )
      return false
    }
  }

  /** Takes a beginning back, however long it takes: the file system may be full. The disk is owned here all the while. */
  async #undo(course: SourceCourse): Promise<void> {
    while (!(await this.#cancelled(course))) {
      try {
        await this.#services.clock.sleep(undoRetryMs, this.#stopping.signal)
      } catch {
        return // The next start goes on with it.
      }
    }
  }

  async #takeUpDestination(record: MigrationRecord, diskRecords: readonly DiskRecord[]): Promise<void> {
    const { disks, channel } = this.#services
    const course = await DestinationCourse.open(
      this.#services,
      record,
      channel(record.peerId),
      false,
      async (remote) => {
        const open = disks.get(record.diskId)
        if (open?.trouble) throw new Error(open.trouble)
        if (open) return open
        const diskRecord = diskRecords.find((each) => each.id === record.diskId)
        if (!diskRecord) throw new Error(`migration ${record.id} is recorded, its disk ${record.diskName} is not`)
        return disks.open(diskRecord, remote)
      },
    )
    this.#add(course)
    course.start()
  }

  #add(course: Course): void {
    this.#courses.set(course.id, course)
    if (this.#started) this.#keepLink(course)
    course.listen((event) => {
      if (event.kind !== 'ended') return
      this.#drop(course)
      if (course.disk.state !== 'gone') return
      this.#services.disks.remove(course.disk).catch((error: unknown) => {
        this.#services.log(
          'error',
          { disk: course.record.diskName, error: String(error) },
          'a cancelled disk could not be removed',
        )
      })
    })
    this.onCourse(course)
  }

  #keepLink(course: Course): void {
    if (!this.#kept.has(course.id)) this.#kept.set(course.id, this.#services.keep(course.record.peerId))
  }

  /** A migration that is over. If its source does not know it yet, it is told when it comes back. */
  #remember(record: MigrationRecord): void {
    this.#past.add(record)
    for (const { id } of this.#past.surplus(keptPast)) {
      this.#past.forget(id)
      this.#services.records.commit([{ remove: 'migration', id }]).catch(() => {}) // The next start finds it again.
    }
    if (record.role !== 'destination' || record.state !== 'done' || record.sourceTold) return
    void this.#tellSource(record).catch(() => {}) // This site is stopping: the next start goes on with it.
  }

  async #tellSource(record: MigrationRecord): Promise<void> {
    const { channel, keep } = this.#services
    using _link = keep(record.peerId)
    const told = await tellSource({
      ...this.#services,
      record,
      channel: channel(record.peerId),
      signal: this.#stopping.signal,
      superseded: async (by) => {
        const disk = this.#services.disks.get(record.diskId)
        if (disk?.state === 'owned' && disk.record.generation < by.generation) await this.#supersede(disk, by)
      },
    })
    this.#past.add(told)
  }

  #drop(course: Course): void {
    this.#courses.delete(course.id)
    this.#remember(course.record)
    this.#kept.get(course.id)?.[Symbol.dispose]()
    this.#kept.delete(course.id)
  }

  async #reach(peer: PeerFacts, disk: string, signal: AbortSignal): Promise<void> {
    try {
      await this.#withinTime(reachTimeoutMs, signal, (limited) => this.#services.probe(peer.id, limited))
    } catch (error) {
      throw asRefusal(error, disk, peer.name)
    }
  }

  #checkMovable(name: string): void {
    const disk = this.#services.disks.named(name)
    const refuse = (code: string, message: string, next: string) => {
      throw new Refusal(code, message, { disk: disk.name, safe: 'Nothing was changed.', next })
    }
    if (disk.record.migrationId !== null) {
      const id = disk.record.migrationId
      refuse(
        'migrating',
        `${disk.name} is in migration ${id} already`,
        `vmstore migration show ${id} tells how far it is.`,
      )
    }
    if (disk.state !== 'owned')
      refuse('not-owned', `${disk.name} is ${disk.state} here, not owned`, 'Move it from the site that owns it.')
    if (disk.trouble)
      refuse('disk-failed', `${disk.name}: ${disk.trouble}`, 'Mend the storage and restart the daemon first.')
  }

  /** A disk that was here before may come back; one that is here in any other way may not. */
  #checkReturn({ disk }: PrepareMessage): Disposable | undefined {
    const here = this.#services.disks.get(disk.id)
    if (!here) return undefined
    const mayReturn = here.state === 'released' || here.state === 'superseded'
    if (mayReturn && disk.generation >= here.record.generation && disk.sizeBytes === here.sizeBytes)
      return reservedFor(here)
    const { generation } = here.record
    throw new PeerRefusal(
      'disk-here',
      `${disk.name} (${disk.id}) is ${here.state} there, in generation ${generation}, with ${here.sizeBytes} bytes`,
    )
  }

  #claimName(name: string, id: string): Disposable {
    try {
      return this.#services.disks.claimName(name, id)
    } catch (error) {
      if (error instanceof Refusal) throw new PeerRefusal(error.code, `at the destination, ${error.message}`)
      throw error
    }
  }

  async #checkSpace(name: string, neededBytes: number): Promise<void> {
    const free = await this.#services.freeBytes()
    if (free >= neededBytes + spareBytes) return
    throw new PeerRefusal(
      'no-space',
      `the destination has ${free} bytes free, ${name} needs ${neededBytes} and ${spareBytes} to spare`,
    )
  }

  async #withinTime<T>(limitMs: number, signal: AbortSignal, work: (limited: AbortSignal) => Promise<T>): Promise<T> {
    const timeout = new AbortController()
    const over = this.#services.clock.sleep(limitMs, timeout.signal).then(
      () => timeout.abort(new LinkError('unreachable', `no answer within ${limitMs / 1000} s`)),
      () => {},
    )
    try {
      return await work(AbortSignal.any([signal, timeout.signal]))
    } finally {
      timeout.abort()
      await over
    }
  }
}

/** A disk in no migration: its guests are refused once the record is durable, and held until then. */
async function supersedeIdle(disk: Disk, { generation, owner }: Supersession): Promise<void> {
  if (generation <= disk.record.generation) return
  if (!disk.gate.frozen) await disk.gate.freeze()
  await disk.move('superseded', { generation, owner })
  disk.gate.thaw()
}

/** Nobody deletes a disk while it comes back. */
function reservedFor(disk: Disk): Disposable {
  try {
    return disk.reserve('it is coming back')
  } catch (error) {
    if (error instanceof Refusal) throw new PeerRefusal(error.code, `at the destination, ${error.message}`)
    throw error
  }
}
