// The source's course of one migration: prepare the destination, serve its reads (source-reads.ts), give the disk up when it
// acquires (grant.ts), and be released; or be cancelled, taken back, or superseded.
//
// What always holds:
// - Cancel and grant exclude each other: both run in `#alone`, one after the other, and look again when their turn comes.
//   So do all that change who owns the disk.
// - What the destination took, and that it has every block, is durable here before it is answered.

import { Refusal } from '../../disk/refusal.ts'
import { unknownOwner } from '../../disk/states.ts'
import { type FetchRequest, PeerRefusal, type Piece, type Urgency } from '../../link/channel.ts'
import type { MigrationCounters } from '../../store/records.ts'
import { Course, type Pace, still } from '../course.ts'
import { startingCode } from '../destination/remote-blocks.ts'
import { GuestsLog } from '../guest-notices.ts'
import { nobodyWaits, type WaitingGuests } from '../held-writes.ts'
import {
  acquireMessage,
  atWorkCode,
  completeMessage,
  digestsMessage,
  extentsMessage,
  flushMessage,
  guestsMessage,
  migrationMessage,
  pauseMessage,
  progressMessage,
  takenMessage,
} from '../messages.ts'
import { prepareMessageOf } from '../new-record.ts'
import {
  clientAtWork,
  isElsewhere,
  notPreparedYet,
  notReclaimable,
  notReclaimed,
  pauseSentence,
  tooLate,
} from '../refusals.ts'
import { restoredRefusal, type Supersession, supersededNote } from '../supersession.ts'
import { Grant } from './grant.ts'
import { SourceNotices } from './source-notices.ts'
import { SourceReads } from './source-reads.ts'

/** The destination tells how fast it is every half second. */
const paceIsOldMs = 3000

export class SourceCourse extends Course {
  #turn: Promise<unknown> = Promise.resolve()
  /** A commit that takes the disk back was tried: nothing is granted, served or released under the generation given away. */
  #reclaiming = false
  /** What the destination last told. */
  #reported: MigrationCounters | undefined
  #pace: { readonly told: Pace; readonly atMs: number } | undefined
  #copyingMs = this.record.copyingMs
  #guests: WaitingGuests = { ...nobodyWaits, refused: this.record.refusedWrites }
  readonly #guestsLog = new GuestsLog(this.services.log, { migration: this.id, disk: this.moved.name })
  readonly #reads = new SourceReads(this, this.services, () => this.#reclaiming)
  readonly #notices = new SourceNotices(this, this.services, this.stopping.signal)
  readonly #grant = new Grant({
    course: this,
    clock: this.services.clock,
    bootId: this.services.bootId,
    signal: this.stopping.signal,
    isCurrent: () => this.#isCurrent,
    isReclaiming: () => this.#reclaiming,
    commitDeparted: (switchoverMs, cutOff) => this.#commitDeparted(switchoverMs, cutOff),
    note: (sentence) => this.setNote(sentence),
    granted: () => {
      this.tellCutOff()
      this.tell({ kind: 'switchover' })
    },
  })

  get counters(): MigrationCounters {
    const counters = this.#reported ?? this.moved.counters
    return this.ended ? counters : { ...counters, ...this.#reads.sent }
  }

  /** A destination of an earlier vmstore does not tell it. */
  protected get livePace(): Pace {
    if (!this.#pace) return { rate: this.meter.rate(), secondsLeft: null }
    return this.services.clock.now() - this.#pace.atMs > paceIsOldMs ? still : this.#pace.told
  }

  get copyingMs(): number {
    return this.#copyingMs
  }

  get guests(): WaitingGuests {
    return this.#guests
  }

  get liveState(): string {
    return this.#grant.isBeingMade ? 'switching' : this.record.state
  }

  /** A source always knows: its own durable record decides. */
  get owner(): string {
    return this.#grant.isOpen ? unknownOwner : this.disk.record.owner
  }

  /** Has the destination make an incoming disk. Throws, and then nothing has changed at the source. */
  async prepare(signal: AbortSignal): Promise<void> {
    this.tell({ kind: 'step', message: 'the destination makes room' })
    await this.disk.coverAnswered() // From now on the guest may leave this host.
    await this.channel.call('prepare', prepareMessageOf(this.record, this.disk, this.services.bootId), { signal })
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

  /** What the destination says. @throws PeerRefusal */
  async answer(method: string, params: unknown): Promise<object> {
    switch (method) {
      case 'inquire':
        return this.#alone(async () => this.#grant.standing()) // Not while a grant is being made: then nobody knows yet.
      case 'acquire':
        return this.#alone(() => this.#grant.acquire(acquireMessage.parse(params)))
      case 'flush':
        return this.#reads.flush(flushMessage.parse(params))
      case 'taken':
        return this.#alone(() => this.#taken(takenMessage.parse(params)))
      case 'extents':
        return this.#reads.extents(extentsMessage.parse(params))
      case 'digests':
        return this.#reads.digests(digestsMessage.parse(params))
      case 'progress':
        return this.#progress(progressMessage.parse(params))
      case 'guests':
        return this.#guestsWait(guestsMessage.parse(params).guests)
      case 'paused':
        return this.#pausedThere(pauseMessage.parse(params).paused)
      case 'complete':
        return this.#alone(() => this.#complete(completeMessage.parse(params)))
      case 'cancel':
        migrationMessage.parse(params)
        return this.#cancelForPeer()
      default:
        throw new PeerRefusal('unknown-method', `a source does not know ${method}`)
    }
  }

  /** Bytes for the destination: the newest before switchover, the frozen ones after. */
  fetch(request: FetchRequest, urgency: Urgency, signal: AbortSignal): AsyncGenerator<Piece> {
    return this.#reads.fetch(request, urgency, signal)
  }

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
      await this.channel.call('switchover', { migration: this.id, force }, { signal })
    } catch (error) {
      if (!(error instanceof PeerRefusal) || error.code !== atWorkCode) throw error
      this.checkIdle(false) // It came in between, and is named as it is known here.
      throw clientAtWork(this.disk.name, 'it came while the disk was being given up', true)
    }
  }

  /** Has the destination hold the background copy, or let it go on. @throws Refusal, LinkError, PeerRefusal */
  async setPaused(paused: boolean, signal: AbortSignal): Promise<void> {
    if (this.record.state === 'preparing') throw this.#tooLate(paused ? 'paused' : 'resumed')
    await this.channel.call('pause', { migration: this.id, paused }, { signal })
    await this.#pausedThere(paused)
  }

  async #pausedThere(paused: boolean): Promise<object> {
    if (this.ended || paused === this.record.paused) return {}
    await this.update({ paused })
    this.tell({ kind: 'step', message: pauseSentence(paused) })
    return {}
  }

  /** Decides, durably, that this migration will not be. @throws Refusal once a grant was made */
  async cancel(): Promise<void> {
    await this.#alone(async () => {
      if (this.record.state === 'cancelled') return
      if (this.disk.state !== 'owned' || this.#grant.isOpen) throw this.#tooLate('cancelled')
      await this.update(this.ending('cancelled', this.services.siteId), (change) =>
        this.disk.note({ migrationId: null }, [change]),
      )
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
      const generation = this.moved.generation + 1
      const note = `taken back as generation ${generation} by disk reclaim; what was written as generation ${this.moved.generation} is void`
      this.#reclaiming = true
      try {
        const ended = this.ending('failed', this.services.siteId, { reclaimedAs: generation })
        await this.update({ ...ended, note }, (change) => this.disk.reclaim(generation, [change]))
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
      const { generation, owner } = by
      await disk.gate.freeze()
      try {
        await this.update({ ...this.ending('failed', owner), note: supersededNote(by) }, (change) =>
          disk.move('superseded', { generation, owner, migrationId: null }, [change]),
        )
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
    const diskName = this.moved.name
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

  /** In one transaction. @throws what the commit throws */
  #commitDeparted(switchoverMs: number, cutOff: readonly string[]): Promise<void> {
    const { generation } = this.moved
    const owner = this.record.peerSite
    const sourceBoot = this.services.bootId
    const switched = { switchedAt: this.now(), switchoverMs, cutOff, sourceBoot, disk: { owner } }
    return this.update({ state: 'copying', ...switched }, (change) =>
      this.disk.move('departed', { generation, owner, taken: false }, [change]),
    )
  }

  /** Durable before it is answered: a destination that is restored to an earlier mark is known by it. */
  async #taken({ generation, mark, run }: ReturnType<typeof takenMessage.parse>): Promise<object> {
    // It was said while `complete` was dealt with: a run that has everything does not say it any more.
    if (this.record.state === 'done') throw restoredRefusal(this.record)
    this.#checkGeneration(generation)
    if (this.disk.state !== 'departed') return {}
    const { record } = this
    if (mark <= record.mark) {
      if (run !== record.markRun) throw restoredRefusal(record)
      return {} // Said again, or late.
    }
    await this.update({ mark, markRun: run }, (change) => this.disk.note({ taken: true }, [change]))
    return {}
  }

  async #complete(message: ReturnType<typeof completeMessage.parse>): Promise<object> {
    if (this.record.state === 'done') return this.#sentAnswer // Said again: the answer was lost.
    this.#checkGeneration(message.generation)
    if (this.disk.state === 'departed') {
      const { verified, differed, copyingMs } = message
      this.#hear(message)
      this.#copyingMs = copyingMs ?? this.#copyingMs
      const ended = this.ending('done', this.record.peerSite, { counters: this.counters, verified, differed })
      await this.update(ended, (change) => this.disk.move('released', { migrationId: null, taken: true }, [change]))
      this.missingBytes = 0
      this.disk.onSessions = () => {}
    }
    this.tell({ kind: 'ended' })
    if (this.terms.sourcePolicy === 'delete') {
      await this.disk.discardBytes().catch((error: unknown) => {
        this.services.log(
          'error',
          { disk: this.disk.name, error: String(error) },
          'the bytes of a released disk stay: delete the disk',
        )
      })
    }
    return this.#sentAnswer
  }

  #progress(message: ReturnType<typeof progressMessage.parse>): object {
    const { missing, unreadable, paused, note, rate, secondsLeft = null, copyingMs } = message
    if (this.record.state !== 'copying') return this.#sentAnswer
    void this.#pausedThere(paused).catch(() => {}) // The next report says it again.
    this.meter.add(Math.max(this.missingBytes - missing, 0))
    if (rate !== undefined) this.#pace = { told: { rate, secondsLeft }, atMs: this.services.clock.now() }
    this.#copyingMs = copyingMs ?? this.#copyingMs
    this.missingBytes = missing
    this.#hear(message)
    this.unreadable = unreadable
    this.setNote(note)
    this.tell({ kind: 'progress' })
    return this.#sentAnswer
  }

  /** They are the destination's guests: here it is only told of them. */
  #guestsWait(guests: WaitingGuests): object {
    this.#guests = guests
    this.#guestsLog.write(guests)
    this.tell({ kind: 'progress' })
    return {}
  }

  /** What landed is the destination's to say, what was sent is ours. */
  #hear({ data, sent, skippedZero, resent }: MigrationCounters): void {
    this.#reported = { data, skippedZero, ...this.#reads.atLeast({ sent, resent }) }
  }

  get #sentAnswer(): object {
    return { sent: this.counters.sent, resent: this.counters.resent }
  }

  async #cancelForPeer(): Promise<object> {
    try {
      await this.cancel()
      return { cancelled: true, message: '' }
    } catch (error) {
      if (error instanceof Refusal) return { cancelled: false, message: error.toPeer }
      throw error
    }
  }

  #checkGeneration(generation: number): void {
    if (this.#reclaiming) throw new PeerRefusal(startingCode, `${this.disk.name} is being taken back`)
    if (this.#isCurrent && generation === this.moved.generation && this.disk.state !== 'owned') return
    throw new PeerRefusal(
      'stale',
      `migration ${this.id} leads to generation ${this.moved.generation}, not ${generation}`,
    )
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
