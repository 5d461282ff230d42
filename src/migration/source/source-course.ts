// The source's course of one migration: prepare the destination, answer what it asks (source-desk.ts), give the disks up when
// it acquires (grant.ts), and be released; or be cancelled, taken back, or superseded.
//
// What always holds: cancel and grant exclude each other, and so do all that change who owns a disk: they run in `#alone`,
// one after the other, and look again when their turn comes. Before switchover the move ends when one of its disks is superseded;
// after it that disk leaves the move, which goes on for the others.

import type { Deed } from '../../deed/entries.ts'
import { signAdopted, signTakenBack } from '../../deed/signing.ts'
import type { Disk } from '../../disk/disk.ts'
import type { DiskPlan } from '../../disk/plan.ts'
import type { Refusal } from '../../disk/refusal.ts'
import { unknownOwner } from '../../disk/states.ts'
import { PeerRefusal } from '../../link/channel.ts'
import type { MigrationCounters, MovedDisk } from '../../store/records.ts'
import type { Ahead } from '../ahead.ts'
import { atWorkCode } from '../codes.ts'
import type { DestinationDesk, SourceDesk } from '../counterpart.ts'
import { Course, type Pace } from '../course.ts'
import type { WaitingGuests } from '../held-writes.ts'
import { diskNames } from '../move.ts'
import { preparationOf } from '../new-record.ts'
import {
  cancelledWithout,
  clientAtWork,
  endedBefore,
  givenStranded,
  grantNotRecorded,
  isElsewhere,
  notPreparedYet,
  notReclaimable,
  notReclaimed,
  pauseSentence,
  tooLate,
} from '../refusals.ts'
import { leftNote, type Supersession, supersededNote } from '../supersession.ts'
import { copiesAhead } from '../terms.ts'
import { attachedWriters, atWork, brokenReason, sessionCount } from './attached.ts'
import { Grant } from './grant.ts'
import { SourceAnswers } from './source-desk.ts'
import { SourceNotices } from './source-notices.ts'
import { SourceReads } from './source-reads.ts'

export class SourceCourse extends Course {
  readonly role = 'source'
  readonly #there: DestinationDesk = this.counterpart.destination(this.id)
  #turn: Promise<unknown> = Promise.resolve()
  /** A commit that takes the disks back was tried: nothing is granted, served or released under the generation given away. */
  #reclaiming = false
  readonly #reads = new SourceReads(this, this.services, () => this.#reclaiming)
  readonly #notices = new SourceNotices(this, this.#there, this.services, this.stopping.signal)
  readonly #grant = new Grant({
    course: this,
    clock: this.services.clock,
    bootId: this.services.bootId,
    key: this.services.key,
    signal: this.stopping.signal,
    isCurrent: () => this.#isCurrent,
    isReclaiming: () => this.#reclaiming,
    update: (changes, plans) => this.update(changes, plans),
    now: () => this.now(),
    note: (sentence) => this.setNote(sentence),
    granted: () => {
      this.tellCutOff()
      this.tell({ kind: 'switchover' })
    },
  })
  readonly #answers: SourceAnswers = new SourceAnswers({
    course: this,
    services: this.services,
    grant: this.#grant,
    reads: this.#reads,
    alone: (work) => this.#alone(work),
    isReclaiming: () => this.#reclaiming,
    isCurrent: () => this.#isCurrent,
    update: (changes, plans) => this.update(changes, plans),
    ending: (state, ownerOf, facts) => this.ending(state, ownerOf, facts),
    note: (sentence) => this.setNote(sentence),
    tell: (event) => this.tell(event),
    cancel: () => this.cancel(),
    pausedThere: (isPaused) => this.#pausedThere(isPaused),
    readyThere: () => this.#isReadyThere(),
  })

  /** What the destination may ask and say. */
  get desk(): SourceDesk {
    return this.#answers
  }

  countersOf(disk: { readonly id: string }): MigrationCounters {
    return this.#answers.countersOf(disk)
  }

  protected get livePace(): Pace {
    return this.#answers.pace
  }

  get copyingMs(): number {
    return this.#answers.copyingMs
  }

  get guests(): WaitingGuests {
    return this.#answers.waitingGuests
  }

  get liveState(): string {
    if (this.#grant.isBeingMade) return 'switching'
    return this.isPreCopying ? 'pre-copying' : this.record.state
  }

  get ahead(): Ahead | null {
    return this.record.state === 'ready' && copiesAhead(this.terms) ? this.#answers.ahead : null
  }

  /** A source always knows: its own durable record decides. */
  ownerOf(disk: Disk): string {
    return this.#grant.isOpen ? unknownOwner : disk.record.owner
  }

  /** Has the destination make incoming disks. Throws, and then nothing has changed at the source. */
  async prepare(signal: AbortSignal): Promise<void> {
    this.tell({ kind: 'step', message: 'the destination makes room' })
    for (const disk of this.disks) await disk.departing.coverAnswered() // From now on the guest may leave this host.
    await this.counterpart.prepare(preparationOf(this.record, this.disks, this.services.bootId), signal)
    await this.#alone(async () => {
      if (this.ended) throw isElsewhere(this.#superseded)
      if (this.terms.switchover === 'now') this.checkIdle(this.terms.force) // It may have begun to work meanwhile.
      await this.update({ state: 'ready' })
    })
    this.watch()
    if (!this.isPreCopying) return this.tell({ kind: 'ready', message: this.readyMessage })
    const served = this.disks.length > 1 ? 'them' : 'it'
    const message = `the destination serves ${diskNames(this.record)}, and copies ${served} ahead of the switchover`
    this.tell({ kind: 'step', message })
  }

  /** The destination says that what it copies ahead has come so far that the machine may move. */
  async #isReadyThere(): Promise<void> {
    if (!this.isPreCopying) return
    await this.update({ readyAt: this.now() })
    this.tell({ kind: 'ready', message: this.readyMessage })
  }

  /** Watches the sessions of the disks for the end of their writers. */
  watch(): void {
    for (const disk of this.inMove) disk.onSessions = () => this.#notices.sessionsChanged()
    this.#notices.sessionsChanged() // They may have said goodbye before.
  }

  /** Takes up what a daemon that ended left. Its sessions are forgotten: a guest that runs is given the time to come back. */
  takeUp(): void {
    this.#grant.waitForReturns()
    this.watch()
  }

  /** What it has begun ends with what it was begun for. */
  async settled(): Promise<void> {}

  /** The operator's word is not taken while a client works here, but by force. @throws Refusal */
  checkIdle(force: boolean): void {
    const found = force ? undefined : atWork(this.inMove)
    if (found) throw clientAtWork(found.disk.name, found.why, true)
  }

  /** The operator here: now. The destination asks for the grant, as always. @throws Refusal, LinkError, PeerRefusal */
  async switchover(force: boolean, signal: AbortSignal): Promise<void> {
    if (this.record.state !== 'ready') throw this.#tooLate('switched over')
    this.checkIdle(force || this.terms.force)
    await this.update({ ordered: { force } }) // By this word alone the destination's question counts as the operator's.
    try {
      await this.#there.switchover(force, signal)
    } catch (error) {
      if (!(error instanceof PeerRefusal)) {
        // It may have heard it, and asks later, when clients may be at work again: these are not cut off by a word of before.
        if (force && this.record.state === 'ready') await this.update({ ordered: { force: false } }).catch(() => {})
        throw error
      }
      if (this.record.state === 'ready') await this.update({ ordered: null })
      if (error.code !== atWorkCode) throw error
      this.checkIdle(false) // It came in between, and is named as it is known here.
      const what = this.disks.length > 1 ? 'the disks were' : 'the disk was'
      throw clientAtWork(diskNames(this.record), `it came while ${what} being given up`, true)
    }
  }

  /** Has the destination hold the background copy, or let it go on. @throws Refusal, LinkError, PeerRefusal */
  async setPaused(paused: boolean, signal: AbortSignal): Promise<void> {
    if (this.record.state === 'preparing') throw this.#tooLate(paused ? 'paused' : 'resumed')
    await this.#there.pause(paused, signal)
    await this.#pausedThere(paused)
  }

  /** The destination copies, and is told first. @throws Refusal, LinkError, PeerRefusal */
  async setMaxRate(maxRate: number | null, signal: AbortSignal): Promise<void> {
    if (this.record.state === 'preparing') throw this.#tooLate('bounded')
    await this.#there.setMaxRate(maxRate, signal)
    await this.noteMaxRate(maxRate)
  }

  async #pausedThere(paused: boolean): Promise<void> {
    if (this.ended || paused === this.record.paused) return
    await this.update({ paused })
    this.tell({ kind: 'step', message: pauseSentence(paused) })
  }

  /** Decides, durably, that this migration will not be. @throws Refusal once a grant was made */
  async cancel(): Promise<void> {
    await this.#alone(async () => {
      if (this.record.state === 'cancelled') return
      const isGiven = this.disks.some((disk) => disk.state !== 'owned')
      if (isGiven || this.#grant.isOpen) throw this.#tooLate('cancelled')
      const left = this.disks.map((disk) => disk.leaveMigration())
      await this.update(this.ending('cancelled', this.services.siteId), left)
      this.#isOver()
    })
    this.#notices.cancelled()
  }

  async endWithout(peerName: string): Promise<string> {
    return this.#alone(async () => {
      if (this.ended) return endedBefore(this.record)
      if (this.#grant.isOpen) throw grantNotRecorded(this.record)
      const disks = this.inMove
      const isGiven = disks.some((disk) => disk.state !== 'owned')
      const left = disks.map((disk) => disk.leaveMigration())
      const said = isGiven ? givenStranded(this.record, peerName, this.missingBytes) : cancelledWithout(this.record)
      const ended = isGiven
        ? this.ending('failed', this.record.peerSite)
        : this.ending('cancelled', this.services.siteId)
      await this.update({ ...ended, note: said }, left)
      this.#isOver()
      return said
    })
  }

  /**
   * Takes all disks of the move back, each above the generation that was given away. Whoever calls has seen that the
   * destination does not answer, and the operator that its guest is off. `asked`: the one of them that the operator named;
   * `word`: what the deed says of it.
   * @throws Refusal
   */
  async reclaim(asked: Disk = this.disk, word = 'disk reclaim'): Promise<readonly Disk[]> {
    return this.#alone(async () => {
      const disks = this.inMove
      if (!disks.includes(asked) || asked.state !== 'departed' || !this.#isCurrent) throw notReclaimable(asked)
      const elsewhere = disks.find((disk) => disk.isVoid)
      if (elsewhere) throw isElsewhere(elsewhere)
      this.#reclaiming = true
      try {
        const facts = ({ generation }: MovedDisk) => ({ reclaimedAs: generation + 1 })
        const ended = this.ending('failed', this.services.siteId, facts)
        await this.update({ ...ended, note: reclaimedNote(this.#movedHere) }, async () => {
          const plans: DiskPlan[] = []
          for (const disk of disks)
            plans.push(await disk.departing.reclaim(this.moved(disk).generation + 1, this.#takenBack(disk, word)))
          return plans
        })
      } catch (error) {
        throw notReclaimed(asked, error)
      }
      this.#isOver()
      return disks
    })
  }

  #takenBack(disk: Disk, word: string): Deed {
    const { key } = this.services
    const { deed } = disk.record
    // It was given before disks had deeds, to a key that is not on record: its deed begins here.
    if (deed === null) return signAdopted(key, disk.id, this.moved(disk).generation + 1, this.now())
    return signTakenBack(key, deed, word, this.now())
  }

  /** A later generation of a disk exists elsewhere: whatever this migration was at, that disk is served to nobody any more. */
  async supersede(by: Supersession, disk: Disk = this.disk): Promise<void> {
    await this.#alone(async () => {
      if (this.ended || !this.inMove.includes(disk)) return
      const isOver = this.record.state !== 'copying' || this.inMove.length === 1
      await disk.gate.freeze()
      try {
        await (isOver ? this.#endSuperseded(disk, by) : this.#letGo(disk, by))
      } finally {
        disk.gate.thaw() // Whoever had it superseded holds the guests meanwhile.
      }
      disk.onSessions = () => {}
      if (!isOver) return
      this.#grant.close()
      this.#isOver()
      this.#notices.cancelled()
    })
  }

  /** The move ends. Disks that are not given away yet are free, and stay owned. */
  #endSuperseded(disk: Disk, by: Supersession): Promise<void> {
    const { siteId } = this.services
    const ended = this.ending('failed', ({ id }) => (id === disk.id ? by.owner : siteId))
    const others = this.inMove.filter((each) => each !== disk)
    const note = others.length > 0 ? `${disk.name}: ${supersededNote(by)}` : supersededNote(by)
    return this.update({ ...ended, note }, [disk.supersede(by), ...others.map((each) => each.leaveMigration())])
  }

  /** The disks have passed: this one leaves the move, which goes on for the others. */
  async #letGo(disk: Disk, by: Supersession): Promise<void> {
    const note = leftNote(disk.name, by)
    const left = { owner: by.owner, hasLeft: true, counters: this.countersOf(disk) }
    await this.update({ disks: { [disk.id]: left }, note }, [disk.supersede(by)])
    Object.assign(this.figures(disk), { missingBytes: 0, unreadable: [] })
    this.tell({ kind: 'step', message: note })
  }

  #isOver(): void {
    for (const disk of this.disks) disk.onSessions = () => {}
    this.tell({ kind: 'ended' })
  }

  get readyMessage(): string {
    const { switchover } = this.terms
    const names = diskNames(this.record)
    const byHand = `vmstore migration switchover ${this.id}`
    if (switchover === 'now') {
      const clients = attachedWriters(this.inMove)
      const forced = clients.length > 0 ? `; by --force, which cuts off ${clients.join(', ')}` : ''
      return `the destination serves ${names} and takes ${this.disks.length > 1 ? 'them' : 'it'} over now${forced}`
    }
    const open = `the destination serves ${names}: move the machine now`
    if (switchover === 'manual') return `${open}, and then: ${byHand}`
    const first = `${open}; its first write there switches over`
    const broken = brokenReason(this.inMove)
    if (broken)
      return `${first}, once all is flushed here. But ${broken}: when the machine is off or has moved, ${byHand}`
    if (sessionCount(this.inMove) > 0) return first
    return `${first}. No client is attached here: if the machine is off, ${byHand}`
  }

  /** Whether the disks are in this migration, and in no other. */
  get #isCurrent(): boolean {
    return this.inMove.every(({ record }) => record.migrationId === this.id)
  }

  get #movedHere(): readonly MovedDisk[] {
    return this.inMove.map((disk) => this.moved(disk))
  }

  /** Of a move that a superseded disk has ended. */
  get #superseded(): Disk {
    return this.disks.find(({ state }) => state === 'superseded') ?? this.disks[0]!
  }

  #tooLate(what: string): Refusal {
    const { record } = this
    const disk = this.inMove[0] ?? this.disks[0]!
    return record.state === 'preparing' ? notPreparedYet(disk, record) : tooLate(disk, record, what)
  }

  /** Runs what may change state one after the other. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work, work)
    this.#turn = turn.catch(() => {})
    return turn
  }
}

function reclaimedNote(disks: readonly MovedDisk[]): string {
  const as = ({ generation }: MovedDisk) => `as generation ${generation + 1}`
  const was = ({ generation }: MovedDisk) => `as generation ${generation}`
  const of = (each: (disk: MovedDisk) => string) =>
    disks.map((disk) => (disks.length > 1 ? `${disk.name} ${each(disk)}` : each(disk))).join(', ')
  return `taken back ${of(as)} by disk reclaim; what was written ${of(was)} is void`
}
