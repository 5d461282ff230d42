// The destination's course of one migration: goes through the phases as the disk's state says, answers its source, does what the
// operator here asks, and ends at any time when the disk is superseded.
//
//   incoming   phases/incoming.ts    the source owns; the disk is served from afar, until switchover.ts takes it
//   arriving   phases/arriving.ts    this site owns; what is missing is fetched and compared
//   owned      phases/finishing.ts   everything is here; the source is released

import type { Disk } from '../../disk/disk.ts'
import { Refusal } from '../../disk/refusal.ts'
import type { RemotePart } from '../../disk/remote-part.ts'
import { LinkError, PeerRefusal } from '../../link/channel.ts'
import type { MigrationCounters, MigrationRecord } from '../../store/records.ts'
import type { Comparison } from '../copy/comparisons.ts'
import type { Counterpart, DestinationDesk } from '../counterpart.ts'
import { Course, type CourseServices, type Pace } from '../course.ts'
import type { WaitingGuests } from '../held-writes.ts'
import { clientAtWork, noAnswerToCancel, tooLate } from '../refusals.ts'
import { type Supersession, supersededNote, supersessionIn } from '../supersession.ts'
import { heeding } from './heeding.ts'
import { type DestinationHost, recorded } from './host.ts'
import { Arriving } from './phases/arriving.ts'
import { Finishing } from './phases/finishing.ts'
import { Incoming } from './phases/incoming.ts'
import { Remote } from './remote.ts'
import { Tally } from './tally.ts'

export class DestinationCourse extends Course {
  readonly role = 'destination'
  readonly #host: DestinationHost
  readonly #tally: Tally
  readonly #incoming: Incoming
  readonly #arriving: Arriving
  readonly #finishing: Finishing
  #main: Promise<void> = Promise.resolve()
  readonly #leaving = new AbortController()
  /** The word that a later generation exists. */
  #supersededBy: Supersession | undefined
  /** What the source says. */
  readonly desk: DestinationDesk

  /**
   * The course of a disk in the state that its record names, and the disk, opened with it. `fresh`: the source has just
   * asked for it, so that nothing can have been granted yet.
   */
  static async open(
    services: CourseServices,
    record: MigrationRecord,
    counterpart: Counterpart,
    fresh: boolean,
    openDisk: (remote: RemotePart) => Promise<Disk>,
  ): Promise<DestinationCourse> {
    const remote = new Remote()
    const course = new DestinationCourse(services, await openDisk(remote), record, counterpart, fresh)
    remote.connect(course.#incoming, course.#arriving)
    return course
  }

  private constructor(
    services: CourseServices,
    disk: Disk,
    record: MigrationRecord,
    counterpart: Counterpart,
    fresh: boolean,
  ) {
    super(services, [disk], record, counterpart)
    const [stopping, leaving] = [this.stopping.signal, this.#leaving.signal]
    this.#host = {
      course: this,
      services,
      source: heeding(counterpart.source(record.id), (error) => this.#heed(error)),
      stopping,
      leaving,
      working: AbortSignal.any([stopping, leaving]),
      update: (changes, plans) => this.update(changes, plans),
      ending: (state, ownerOf, facts) => this.ending(state, ownerOf, facts),
      note: (sentence) => this.setNote(sentence),
      tell: (event) => this.tell(event),
      tellCutOff: () => this.tellCutOff(),
      now: () => this.now(),
      heed: (error) => this.#heed(error),
    }
    this.#tally = new Tally(this.moved(this.disk).counters)
    this.#incoming = new Incoming(this.#host, fresh)
    this.#arriving = new Arriving(this.#host, this.#tally)
    this.#finishing = new Finishing(this.#host, this.#tally)
    this.desk = {
      cancelled: () => this.#incoming.leave(),
      switchover: (force) => this.#switchoverForPeer(force),
      pause: (isPaused) => toPeer(this.setPaused(isPaused)),
      writersGone: async () => this.#incoming.writersGone(),
    }
  }

  get readyMessage(): string {
    const { switchover } = this.terms
    const { name } = this.moved(this.disk)
    if (switchover === 'now') return `${name} is served here, and is being taken over`
    if (switchover === 'manual')
      return `${name} is served here: move the machine, then: vmstore migration switchover ${this.id}`
    return `${name} is served here: move the machine now; its first write here switches over`
  }

  countersOf(): MigrationCounters {
    return this.#tally.now
  }

  get copyingMs(): number {
    return this.#arriving.copyingMs
  }

  protected get livePace(): Pace {
    return this.#arriving.pace
  }

  get guests(): WaitingGuests {
    return this.#incoming.guests
  }

  get liveState(): string {
    return this.#incoming.isSwitching ? 'switching' : this.record.state
  }

  ownerOf(disk: Disk): string {
    return disk.state === 'incoming' ? this.#incoming.owner : disk.record.owner
  }

  override linkChanged(isUp: boolean): void {
    this.#arriving.linkChanged(isUp)
    super.linkChanged(isUp)
    if (isUp) this.#incoming.linkUp()
  }

  /** Starts, or takes up where a daemon that ended left off. */
  start(): void {
    this.#incoming.start()
    this.#main = this.#run().catch((error: unknown) => {
      if (this.stopping.signal.aborted) return
      this.services.log('error', { migration: this.id, error: String(error) }, 'the migration stopped here')
      this.setNote(`stopped: ${(error as Error).message}`)
    })
  }

  override stop(): void {
    super.stop()
    this.#arriving.settle()
    this.#incoming.stop()
  }

  /** Resolves when nothing of this course runs any more, after `stop`. */
  settled(): Promise<void> {
    return this.#main
  }

  /** Resolves once the source has confirmed that this is no old copy of the disk, or the disk is not arriving any more. */
  get confirmed(): Promise<void> {
    return this.#arriving.confirmed
  }

  async #run(): Promise<void> {
    while (!this.stopping.signal.aborted && !this.ended) {
      if (this.#supersededBy) return this.#becomeSuperseded(this.#supersededBy)
      const phase = this.#phase
      if (!phase) return
      try {
        await phase.run()
      } catch (error) {
        if (!this.#supersededBy && !this.ended) throw error
      }
    }
  }

  /** undefined: there is nothing left to do. */
  get #phase(): { run(): Promise<void> } | undefined {
    const { state } = this.disk
    if (state === 'incoming') return this.#incoming
    if (state === 'arriving') return this.#arriving
    return state === 'owned' ? this.#finishing : undefined
  }

  // ---- what the operators ask

  /** The operator at the source: now. That the disk has left is no news there. */
  async #switchoverForPeer(force: boolean): Promise<void> {
    if (this.disk.state === 'incoming') await toPeer(this.switchover(force, this.stopping.signal))
  }

  /** The operator: now. Resolves when the source has answered; or is being asked, and does not answer yet. @throws Refusal */
  async switchover(force: boolean, signal: AbortSignal): Promise<void> {
    if (this.disk.state !== 'incoming') throw tooLate(this.disk, this.record, 'switched over')
    const answer = await this.#incoming.switchover.order(force, signal)
    if (answer?.answer === 'busy') throw clientAtWork(this.disk.name, answer.why, false)
    if (answer?.answer !== 'refused') return
    const facts = { disk: this.disk.name, safe: 'Nothing was changed.' }
    throw new Refusal(answer.code, `the source refused the switchover: ${answer.message}`, facts)
  }

  /** Holds the background copy, or lets it go on; durable before it is answered. @throws Refusal */
  setPaused(isPaused: boolean): Promise<void> {
    return this.#arriving.setPaused(isPaused)
  }

  /** `disk verify`: compares what is here, and was not written here, with the source. @throws Refusal, LinkError, PeerRefusal */
  verify(signal: AbortSignal): Promise<Comparison> {
    return this.#arriving.verify(signal)
  }

  /** Has the source decide. `force`: leaves without its answer, or ends without telling it. @throws Refusal */
  async cancel(force: boolean, signal: AbortSignal): Promise<void> {
    if (this.record.state === 'cancelled') return
    if (force && this.disk.state === 'owned' && !this.ended) return this.#endUntold()
    if (this.disk.state !== 'incoming' || this.#incoming.switchover.hasGrant)
      throw tooLate(this.disk, this.record, 'cancelled')
    let answer = { cancelled: true, message: '' }
    let owner = this.record.peerSite
    try {
      answer = await this.#host.source.cancel(signal)
    } catch (error) {
      if (!(error instanceof LinkError) && !(error instanceof PeerRefusal)) throw error
      if (!force) throw noAnswerToCancel(this.disk.name, error)
      this.services.log('warn', { migration: this.id }, 'cancelled by force, without the source')
      owner = this.owner // Where the source was asked for the disk, and has not answered, nobody here knows.
    }
    if (!answer.cancelled)
      throw new Refusal('too-late', `the source refused to cancel: ${answer.message}`, { disk: this.disk.name })
    await this.#incoming.leave(owner)
  }

  async #endUntold(): Promise<void> {
    await this.#finishing.recordUntold()
    this.#leaving.abort(new Error('the migration was ended by force'))
    this.tell({ kind: 'ended' })
  }

  // ---- a later generation exists elsewhere

  /** Everything that works here ends when the source says that the disk is superseded. */
  #heed(error: unknown): void {
    const by = supersessionIn(error, this.disk.record.generation)
    if (by) this.#leave(by)
  }

  #leave(by: Supersession): void {
    this.#supersededBy ??= by
    this.#leaving.abort(new Error('the disk is superseded'))
  }

  /** A peer says so. */
  async supersede(by: Supersession): Promise<void> {
    this.#leave(by)
    await this.#main
    if (!this.ended && !this.stopping.signal.aborted) await this.#becomeSuperseded(by) // It had stopped before.
  }

  /** Nobody is served here any more, and the bytes stay. */
  async #becomeSuperseded(by: Supersession): Promise<void> {
    const { disk } = this
    const { generation, owner } = by
    const note = supersededNote(by)
    this.services.log('error', { migration: this.id, disk: disk.name, generation }, note)
    await disk.gate.freeze() // Requests in flight end first, against the file that they began with.
    const supersede = () => this.update({ ...this.ending('failed', owner), note }, [disk.supersede(by)])
    await recorded(this.#host, 'that the disk is superseded', supersede, this.stopping.signal)
    disk.gate.thaw()
    this.#arriving.settle()
    this.tell({ kind: 'ended' })
  }
}

/** What an operator was refused here, as the operator at the other site is told it. */
async function toPeer(work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (error instanceof Refusal) throw new PeerRefusal(error.code, error.toPeer)
    throw error
  }
}
