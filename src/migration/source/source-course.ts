// The source's course of one migration: prepare the destination, answer what it asks (source-desk.ts), give the disk up when
// it acquires (grant.ts), and be released; or be cancelled, taken back, or superseded.
//
// What always holds: cancel and grant exclude each other, and so do all that change who owns the disk: they run in `#alone`,
// one after the other, and look again when their turn comes.

import type { Disk } from '../../disk/disk.ts'
import type { Refusal } from '../../disk/refusal.ts'
import { unknownOwner } from '../../disk/states.ts'
import { PeerRefusal } from '../../link/channel.ts'
import type { MigrationCounters } from '../../store/records.ts'
import { atWorkCode } from '../codes.ts'
import type { DestinationDesk, SourceDesk } from '../counterpart.ts'
import { Course, type Pace } from '../course.ts'
import type { WaitingGuests } from '../held-writes.ts'
import { preparationOf } from '../new-record.ts'
import {
  clientAtWork,
  isElsewhere,
  notPreparedYet,
  notReclaimable,
  notReclaimed,
  pauseSentence,
  tooLate,
} from '../refusals.ts'
import { type Supersession, supersededNote } from '../supersession.ts'
import { Grant } from './grant.ts'
import { SourceAnswers } from './source-desk.ts'
import { SourceNotices } from './source-notices.ts'
import { SourceReads } from './source-reads.ts'

export class SourceCourse extends Course {
  readonly role = 'source'
  readonly #there: DestinationDesk = this.counterpart.destination(this.id)
  #turn: Promise<unknown> = Promise.resolve()
  /** A commit that takes the disk back was tried: nothing is granted, served or released under the generation given away. */
  #reclaiming = false
  readonly #reads = new SourceReads(this, this.services, () => this.#reclaiming)
  readonly #notices = new SourceNotices(this, this.#there, this.services, this.stopping.signal)
  readonly #grant = new Grant({
    course: this,
    clock: this.services.clock,
    bootId: this.services.bootId,
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
  })

  /** What the destination may ask and say. */
  get desk(): SourceDesk {
    return this.#answers
  }

  countersOf(): MigrationCounters {
    return this.#answers.counters
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
    return this.#grant.isBeingMade ? 'switching' : this.record.state
  }

  /** A source always knows: its own durable record decides. */
  ownerOf(disk: Disk): string {
    return this.#grant.isOpen ? unknownOwner : disk.record.owner
  }

  /** Has the destination make an incoming disk. Throws, and then nothing has changed at the source. */
  async prepare(signal: AbortSignal): Promise<void> {
    this.tell({ kind: 'step', message: 'the destination makes room' })
    await this.disk.departing.coverAnswered() // From now on the guest may leave this host.
    await this.counterpart.prepare(preparationOf(this.record, this.disk, this.services.bootId), signal)
    await this.#alone(async () => {
      if (this.ended) throw isElsewhere(this.disk)
      if (this.terms.switchover === 'now') this.checkIdle(this.terms.force) // It may have begun to work meanwhile.
      await this.update({ state: 'ready' })
    })
    this.watch()
    this.tell({ kind: 'ready', message: this.readyMessage })
  }

  /** Watches the sessions of the disk for the end of its writers. */
  watch(): void {
    this.disk.onSessions = () => this.#notices.sessionsChanged()
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
    const why = force ? undefined : this.disk.sessions.attachedReason()
    if (why !== undefined) throw clientAtWork(this.disk.name, why, true)
  }

  /** The operator here: now. The destination asks for the grant, as always. @throws Refusal, LinkError, PeerRefusal */
  async switchover(force: boolean, signal: AbortSignal): Promise<void> {
    if (this.record.state !== 'ready') throw this.#tooLate('switched over')
    this.checkIdle(force || this.terms.force)
    try {
      await this.#there.switchover(force, signal)
    } catch (error) {
      if (!(error instanceof PeerRefusal) || error.code !== atWorkCode) throw error
      this.checkIdle(false) // It came in between, and is named as it is known here.
      throw clientAtWork(this.disk.name, 'it came while the disk was being given up', true)
    }
  }

  /** Has the destination hold the background copy, or let it go on. @throws Refusal, LinkError, PeerRefusal */
  async setPaused(paused: boolean, signal: AbortSignal): Promise<void> {
    if (this.record.state === 'preparing') throw this.#tooLate(paused ? 'paused' : 'resumed')
    await this.#there.pause(paused, signal)
    await this.#pausedThere(paused)
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
      if (this.disk.state !== 'owned' || this.#grant.isOpen) throw this.#tooLate('cancelled')
      await this.update(this.ending('cancelled', this.services.siteId), [this.disk.leaveMigration()])
      this.disk.onSessions = () => {}
      this.tell({ kind: 'ended' })
    })
    this.#notices.cancelled()
  }

  /**
   * Takes the disk back, above the generation that was given away. Whoever calls has seen that the destination does not
   * answer, and the operator that its guest is off. @throws Refusal
   */
  async reclaim(): Promise<void> {
    await this.#alone(async () => {
      if (this.disk.state !== 'departed' || !this.#isCurrent) throw notReclaimable(this.disk)
      if (this.disk.isVoid) throw isElsewhere(this.disk)
      const generation = this.moved(this.disk).generation + 1
      const note = `taken back as generation ${generation} by disk reclaim; what was written as generation ${this.moved(this.disk).generation} is void`
      this.#reclaiming = true
      try {
        const ended = this.ending('failed', this.services.siteId, () => ({ reclaimedAs: generation }))
        await this.update({ ...ended, note }, async () => [await this.disk.departing.reclaim(generation)])
      } catch (error) {
        throw notReclaimed(this.disk, error)
      }
      this.disk.onSessions = () => {}
      this.tell({ kind: 'ended' })
    })
  }

  /** A later generation exists elsewhere: whatever this migration was at, the disk is served to nobody any more. */
  async supersede(by: Supersession): Promise<void> {
    await this.#alone(async () => {
      const { disk } = this
      if (this.ended) return
      const { owner } = by
      await disk.gate.freeze()
      try {
        await this.update({ ...this.ending('failed', owner), note: supersededNote(by) }, [disk.supersede(by)])
      } finally {
        disk.gate.thaw() // Whoever had it superseded holds the guests meanwhile.
      }
      this.#grant.close()
      disk.onSessions = () => {}
      this.tell({ kind: 'ended' })
      this.#notices.cancelled()
    })
  }

  get readyMessage(): string {
    const { switchover } = this.terms
    const diskName = this.moved(this.disk).name
    const byHand = `vmstore migration switchover ${this.id}`
    if (switchover === 'now') {
      const clients = this.disk.sessions.attachedWriters()
      const forced = clients.length > 0 ? `; by --force, which cuts off ${clients.join(', ')}` : ''
      return `the destination serves ${diskName} and takes it over now${forced}`
    }
    const open = `the destination serves ${diskName}: move the machine now`
    if (switchover === 'manual') return `${open}, and then: ${byHand}`
    const first = `${open}; its first write there switches over`
    const broken = this.disk.sessions.brokenReason()
    if (broken)
      return `${first}, once all is flushed here. But ${broken}: when the machine is off or has moved, ${byHand}`
    if (this.disk.sessions.count > 0) return first
    return `${first}. No client is attached here: if the machine is off, ${byHand}`
  }

  /** Whether the disk is in this migration, and no other. */
  get #isCurrent(): boolean {
    return this.disk.record.migrationId === this.id
  }

  #tooLate(what: string): Refusal {
    const { disk, record } = this
    return record.state === 'preparing' ? notPreparedYet(disk, record) : tooLate(disk, record, what)
  }

  /** Runs what may change state one after the other. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work, work)
    this.#turn = turn.catch(() => {})
    return turn
  }
}
