// The destination's course of one migration: goes through the phases as the states of its disks say, answers its source, and does
// what the operator here asks. A disk that is superseded leaves the move at any time, and the move goes on for the others.
//
//   incoming   phases/incoming.ts    the source owns; the disks are served from afar, until switchover.ts takes them, all at once
//   arriving   phases/arriving.ts    this site owns; what is missing is fetched and compared, one disk after the other
//   owned      phases/finishing.ts   everything is here; the source is released
//
// What always holds: one phase runs at a time. It ends when a disk is to leave, and begins anew without it.

import assert from 'node:assert/strict'
import type { Disk } from '../../disk/disk.ts'
import { Refusal } from '../../disk/refusal.ts'
import type { Landed, RemotePart } from '../../disk/remote-part.ts'
import { unknownOwner } from '../../disk/states.ts'
import { LinkError, PeerRefusal } from '../../link/channel.ts'
import type { MigrationCounters, MigrationRecord } from '../../store/records.ts'
import type { Ahead } from '../ahead.ts'
import type { Comparison } from '../copy/comparisons.ts'
import type { RateLimit } from '../copy/rate-limit.ts'
import type { Counterpart, DestinationDesk } from '../counterpart.ts'
import { Course, type CourseServices, type Pace } from '../course.ts'
import { askDeedUntilAnswered } from '../deeds.ts'
import type { WaitingGuests } from '../held-writes.ts'
import { diskNames } from '../move.ts'
import {
  arrivingStranded,
  clientAtWork,
  endedBefore,
  finishedWithout,
  grantNotRecorded,
  leftWithout,
  noAnswerToCancel,
  notAheadYet,
  nothingToBound,
  ownersWord,
  tooLate,
} from '../refusals.ts'
import { wasFurther } from '../signed-words.ts'
import { leftNote, restoredHere, type Supersession, supersededNote, supersessionBy, voidWord } from '../supersession.ts'
import { ComingDisk } from './coming-disk.ts'
import { heeding } from './heeding.ts'
import { type DestinationHost, recorded } from './host.ts'
import { Pacing } from './pacing.ts'
import { Arriving } from './phases/arriving.ts'
import { Finishing } from './phases/finishing.ts'
import { Incoming } from './phases/incoming.ts'
import { Remote } from './remote.ts'

export class DestinationCourse extends Course {
  readonly role = 'destination'
  readonly #host: DestinationHost
  readonly #coming: readonly ComingDisk[]
  readonly #limit: RateLimit
  readonly #incoming: Incoming
  readonly #arriving: Arriving
  readonly #finishing: Finishing
  #main: Promise<void> = Promise.resolve()
  /** Ends what the phase does now: a disk is to leave, or the operator ends the migration without the source. */
  #interruption = new AbortController()
  /** What is to be done when no phase runs. */
  readonly #between: (() => Promise<void>)[] = []
  /** What the source says. */
  readonly desk: DestinationDesk

  /**
   * The course of disks in the states that their records name, and the disks, opened with it. `fresh`: the source has just
   * asked for it, so that nothing can have been granted yet.
   */
  static async open(
    services: CourseServices,
    record: MigrationRecord,
    counterpart: Counterpart,
    fresh: boolean,
    openDisk: (remote: RemotePart, id: string) => Promise<Disk>,
  ): Promise<DestinationCourse> {
    const inMove = record.disks.filter(({ hasLeft }) => !hasLeft)
    const remotes = inMove.map(() => new Remote())
    try {
      const disks: Disk[] = []
      for (const [index, { id }] of inMove.entries()) disks.push(await openDisk(remotes[index]!, id))
      const course = new DestinationCourse(services, disks, record, counterpart, fresh)
      const [incoming, arriving] = [course.#incoming.disks, course.#arriving.disks]
      for (const [index, remote] of remotes.entries()) {
        const landedAhead = (landed: Landed) => course.#incoming.landed(course.#coming[index]!, landed)
        remote.connect({ incoming: incoming[index]!, arriving: arriving[index]!, landedAhead })
      }
      return course
    } catch (error) {
      for (const remote of remotes) remote.fail(error)
      throw error
    }
  }

  private constructor(
    services: CourseServices,
    disks: readonly Disk[],
    record: MigrationRecord,
    counterpart: Counterpart,
    fresh: boolean,
  ) {
    super(services, disks, record, counterpart)
    this.#host = {
      course: this,
      services,
      source: heeding(counterpart.source(record.id), (error) => this.#heed(error)),
      stopping: this.stopping.signal,
      update: (changes, plans) => this.update(changes, plans),
      ending: (state, ownerOf, facts) => this.ending(state, ownerOf, facts),
      note: (sentence) => this.setNote(sentence),
      tell: (event) => this.tell(event),
      tellCutOff: () => this.tellCutOff(),
      now: () => this.now(),
      heed: (error) => this.#heed(error),
    }
    this.#coming = disks.map((disk) => new ComingDisk(this.#host, disk))
    const pacing = new Pacing(services.clock, record)
    this.#limit = pacing.limit
    const report = (signal: AbortSignal) => this.#arriving.report(signal)
    this.#incoming = new Incoming(this.#host, this.#coming, { fresh, pacing, report })
    this.#arriving = new Arriving(this.#host, this.#coming, pacing)
    this.#finishing = new Finishing(this.#host, this.#coming)
    this.desk = {
      cancelled: () => this.#incoming.leave(),
      switchover: (force) => this.#switchoverForPeer(force),
      pause: (isPaused) => toPeer(this.setPaused(isPaused)),
      setMaxRate: (maxRate) => toPeer(this.setMaxRate(maxRate)),
      writersGone: async () => this.#incoming.writersGone(),
    }
  }

  get readyMessage(): string {
    const { switchover } = this.terms
    const names = diskNames(this.record)
    const [served, it] =
      this.disks.length > 1 ? [`${names} are served here`, 'them'] : [`${names} is served here`, 'it']
    if (switchover === 'now') return `${served}, and ${it === 'it' ? 'is' : 'are'} being taken over`
    if (switchover === 'manual') return `${served}: move the machine, then: vmstore migration switchover ${this.id}`
    return `${served}: move the machine now; its first write here switches over`
  }

  countersOf({ id }: { readonly id: string }): MigrationCounters {
    return this.#comingOf(id).tally.now
  }

  get copyingMs(): number {
    return this.#arriving.copyingMs
  }

  protected get livePace(): Pace {
    return this.#isIncoming ? this.#incoming.pace : this.#arriving.pace
  }

  get ahead(): Ahead | null {
    return this.#incoming.ahead
  }

  get guests(): WaitingGuests {
    return this.#incoming.guests
  }

  get liveState(): string {
    if (this.#incoming.isSwitching) return 'switching'
    return this.isPreCopying ? 'pre-copying' : this.record.state
  }

  ownerOf(disk: Disk): string {
    return disk.state === 'incoming' ? this.#incoming.ownerOf(this.#comingOf(disk.id)) : disk.record.owner
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

  /** Resolves once the source has confirmed that this is no old copy of the disks, or none of them is arriving any more. */
  get confirmed(): Promise<void> {
    return this.#arriving.confirmed
  }

  async #run(): Promise<void> {
    while (!this.stopping.signal.aborted && !this.ended) {
      const interruption = new AbortController()
      this.#interruption = interruption
      if (await this.#workBetween()) continue
      const superseded = this.#superseded
      if (superseded) {
        await this.#becomeSuperseded(superseded)
        continue
      }
      const phase = this.#phase
      if (!phase) return
      try {
        await phase.run(AbortSignal.any([this.stopping.signal, interruption.signal]))
        // A phase that is over has led to the next: all disks pass together.
        assert(this.ended || this.stopping.signal.aborted || this.#phase !== phase)
      } catch (error) {
        if (!interruption.signal.aborted && !this.ended) throw error
      }
    }
  }

  /** undefined: there is nothing left to do. */
  get #phase(): { run(working: AbortSignal): Promise<void> } | undefined {
    const inMove = this.#coming.filter((each) => each.isInMove)
    if (inMove.some((each) => each.isIncoming)) return this.#incoming
    if (inMove.some((each) => each.isArriving)) return this.#arriving
    return inMove.length > 0 && this.#isAllOwned ? this.#finishing : undefined
  }

  get #isIncoming(): boolean {
    return this.#coming.some((each) => each.isIncoming)
  }

  /** Every disk that is still in the move. */
  get #isAllOwned(): boolean {
    return this.#coming.every((each) => !each.isInMove || each.disk.state === 'owned')
  }

  #comingOf(id: string): ComingDisk {
    const found = this.#coming.find((each) => each.id === id)
    assert(found)
    return found
  }

  // ---- what the operators ask

  /** The operator at the source: now. That the disks have left is no news there. */
  async #switchoverForPeer(force: boolean): Promise<void> {
    if (this.#isIncoming) await toPeer(this.switchover(force, this.stopping.signal))
  }

  /** The operator: now. Resolves when the source has answered; or is being asked, and does not answer yet. @throws Refusal */
  async switchover(force: boolean, signal: AbortSignal): Promise<void> {
    if (!this.#isIncoming) throw this.#tooLate('switched over')
    const { notYet } = this.#incoming
    if (notYet !== undefined) throw notAheadYet(this.record, notYet)
    const answer = await this.#incoming.switchover.order(force, signal)
    const disk = diskNames(this.record)
    if (answer?.answer === 'busy')
      throw answer.isOwners ? ownersWord(disk, answer.why) : clientAtWork(disk, answer.why, false)
    if (answer?.answer !== 'refused') return
    const facts = { disk, safe: 'Nothing was changed.' }
    throw new Refusal(answer.code, `the source refused the switchover: ${answer.message}`, facts)
  }

  /** Holds the background copy, or lets it go on; durable before it is answered. @throws Refusal */
  setPaused(isPaused: boolean): Promise<void> {
    return this.#arriving.setPaused(isPaused)
  }

  /** Bounds the background copy anew; durable before it is answered. Also before it begins. @throws Refusal */
  async setMaxRate(maxRate: number | null): Promise<void> {
    if (this.ended || this.record.state === 'finishing') throw nothingToBound(this.record)
    await this.noteMaxRate(maxRate)
    const { maxRate: recorded } = this.terms
    if (this.#limit.bytesPerSecond !== recorded) this.#limit.bytesPerSecond = recorded
  }

  /** `disk verify`: compares what is here, and was not written here, with the source. @throws Refusal, LinkError, PeerRefusal */
  verify(disk: Disk, signal: AbortSignal): Promise<Comparison> {
    return this.#arriving.verify(disk.id, signal)
  }

  /** Has the source decide. `force`: leaves without its answer, or ends without telling it. @throws Refusal */
  async cancel(force: boolean, signal: AbortSignal): Promise<void> {
    if (this.record.state === 'cancelled') return
    if (force && this.#isAllOwned && !this.ended) return this.#endUntold()
    if (!this.#isIncoming || this.#incoming.switchover.hasGrant) throw this.#tooLate('cancelled')
    let answer = { cancelled: true, message: '' }
    let owner = this.record.peerSite
    let note: string | undefined
    try {
      answer = await this.#host.source.cancel(signal)
    } catch (error) {
      if (!(error instanceof LinkError) && !(error instanceof PeerRefusal)) throw error
      if (!force) throw noAnswerToCancel(diskNames(this.record), error)
      this.services.log('warn', { migration: this.id }, 'cancelled by force, without the source')
      owner = this.owner // Where the source was asked for the disks, and has not answered, nobody here knows.
    }
    if (!answer.cancelled && !force) {
      const disk = diskNames(this.record)
      const next =
        'Wait until it has come. --force leaves here all the same: if the source has given the disk up, no site serves it then.'
      throw new Refusal('too-late', `the source refused to cancel: ${answer.message}`, { disk, next })
    }
    if (!answer.cancelled) {
      // What the source says is no reason to stay: by force the operator here decides alone.
      note = `left by force, though the source refused to cancel: ${answer.message}`
      this.services.log('warn', { migration: this.id }, note)
      owner = unknownOwner
    }
    await this.#incoming.leave(owner, note)
  }

  /** Disks that have come go on as owned; one that lacks blocks goes on with what is here, and guests' reads of the rest fail. */
  async endWithout(peerName: string): Promise<string> {
    if (this.ended) return endedBefore(this.record)
    if (this.#isIncoming && !this.#incoming.switchover.hasGrant) {
      const said = leftWithout(this.record, peerName)
      await this.#incoming.leave(this.owner, said)
      return said
    }
    if (this.#isIncoming) throw grantNotRecorded(this.record)
    return this.#betweenPhases(() => this.#endAlone(peerName))
  }

  async #endAlone(peerName: string): Promise<string> {
    if (this.ended) return endedBefore(this.record)
    if (this.#isAllOwned) {
      const said = finishedWithout(this.record, peerName)
      await this.#finishing.recordUntold({ sourceTold: true, note: said })
      this.#leaveAll(`${peerName} was removed here`)
      return said
    }
    const said = arrivingStranded(this.record, peerName, this.missingBytes)
    const ended = this.ending('failed', this.services.siteId)
    await this.update({ ...ended, note: said }, () =>
      this.#coming.filter((each) => each.isInMove).map(({ disk }) => disk.leaveMigration()),
    )
    this.#leaveAll(`${peerName} was removed here, and what is missing is there alone`)
    return said
  }

  /** Runs `work` when no phase does: what a phase has begun to put on record is on it, and it begins nothing more. */
  #betweenPhases<T>(work: () => Promise<T>): Promise<T> {
    const done = Promise.withResolvers<T>()
    this.#between.push(() => work().then(done.resolve, done.reject))
    this.#interruption.abort(new Error('the migration is being ended'))
    void this.#main.then(() => this.#workBetween()) // Where it had stopped before.
    return done.promise
  }

  /** Whether there was any. */
  async #workBetween(): Promise<boolean> {
    const work = this.#between.shift()
    await work?.()
    return work !== undefined
  }

  #tooLate(what: string): Refusal {
    const disk = this.#coming.find((each) => each.isInMove)?.disk ?? this.disks[0]!
    return tooLate(disk, this.record, what)
  }

  async #endUntold(): Promise<void> {
    await this.#finishing.recordUntold()
    this.#leaveAll('the migration was ended by force')
  }

  /** The migration is over, on record: nothing works for it any more. */
  #leaveAll(reason: string): void {
    for (const each of this.#coming) each.leave(reason)
    this.#interruption.abort(new Error(reason))
    this.#arriving.settle()
    this.tell({ kind: 'ended' })
  }

  // ---- a later generation exists elsewhere

  /**
   * Everything that works here for a disk ends when the source says that it is superseded, and can show it: by its deed, or by
   * what this site has signed. That it says so is no reason.
   */
  async #heed(error: unknown): Promise<void> {
    // Looked at now: it is of the mark that was said last, and another may be said soon.
    // A disk that has come whole has nothing to lack: what was signed before is shown to it in vain.
    const isLacking = this.#coming.some((each) => each.isInMove && each.isArriving)
    const isFurther =
      isLacking &&
      error instanceof PeerRefusal &&
      wasFurther(this.services.key, this.record, this.#arriving.thisRun, error.facts)
    await Promise.all(
      this.#coming.map(async (each) => {
        const word = voidWord(error, each.id)
        if (!word || !each.isInMove) return
        // The source owns it: its word ends the move.
        if (each.isIncoming) return void (word === 'superseded' && this.#incoming.leave().catch(() => {})) // Where it was granted, the source says it again.
        const by =
          (await this.#proof(each)) ??
          (word === 'restored' && isFurther ? restoredHere(each.disk.record.generation) : undefined)
        if (by && each.isInMove) this.#leave(each, by)
        else if (!by && !each.working.aborted) this.#tellUnproven(each, error as PeerRefusal)
      }),
    )
  }

  /** What the source's deed of a disk means for it. */
  async #proof({ disk, working }: ComingDisk): Promise<Supersession | undefined> {
    const { clock, siteOf } = this.services
    const theirs = await askDeedUntilAnswered(this.counterpart, disk.id, clock, working).catch(() => undefined)
    const { deed: ours } = disk.record
    return theirs && ours ? supersessionBy(ours, theirs, siteOf) : undefined
  }

  #tellUnproven({ name }: ComingDisk, { message }: PeerRefusal): void {
    const facts = { migration: this.id, disk: name, said: message }
    this.services.log('warn', facts, 'the source says that a disk is void, and shows no proof: it does not count')
  }

  /** An incoming disk that the source has taken back was never here: its migration is over there, and is left here. */
  #leave(coming: ComingDisk, by: Supersession): void {
    if (coming.isIncoming) return void this.#incoming.leave().catch(() => {}) // Where it was granted, the source says it again.
    coming.supersededBy ??= by
    const reason = `${coming.name} is superseded`
    coming.leave(reason)
    this.#interruption.abort(new Error(reason))
  }

  get #superseded(): ComingDisk | undefined {
    return this.#coming.find((each) => each.isInMove && each.supersededBy)
  }

  /** A peer says so. Resolves when that is on record. */
  async supersede(by: Supersession, disk: Disk = this.disk): Promise<void> {
    const coming = this.#comingOf(disk.id)
    const isThere = () => coming.isInMove && !this.ended && !this.stopping.signal.aborted
    if (!isThere()) return
    this.#leave(coming, by)
    await Promise.race([this.#main, coming.left])
    if (!isThere()) return
    // It had stopped before. Of two disks one leaves after the other.
    const turn = this.#main.then(() => (isThere() ? this.#becomeSuperseded(coming) : undefined))
    this.#main = turn.catch(() => {}) // It is told to whoever asked.
    await turn
  }

  /** Nobody is served here any more, and the bytes stay. The move goes on for the other disks, if there are any. */
  async #becomeSuperseded(coming: ComingDisk): Promise<void> {
    const { disk } = coming
    const by = coming.supersededBy!
    const { generation, owner } = by
    const isLast = this.#coming.every((each) => each === coming || !each.isInMove)
    const note = isLast ? supersededNote(by) : leftNote(disk.name, by)
    this.services.log('error', { migration: this.id, disk: disk.name, generation }, note)
    await disk.gate.freeze() // Requests in flight end first, against the file that they began with.
    const left = { [disk.id]: { owner, hasLeft: true, counters: coming.tally.now } }
    const supersede = () =>
      this.update({ ...(isLast ? this.ending('failed', owner) : { disks: left }), note }, [disk.supersede(by)])
    await recorded(this.#host, [disk], 'that the disk is superseded', supersede, this.stopping.signal)
    disk.gate.thaw()
    coming.hasLeft()
    coming.supersededBy = undefined
    if (!isLast) {
      this.#arriving.hasLeft(coming)
      return this.tell({ kind: 'step', message: note })
    }
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
