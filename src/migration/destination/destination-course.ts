// The destination's course of one migration: serve the disk before it owns it, and acquire it. What comes after is in
// arriving-course.ts.
//
// What always holds:
// - `arriving` is committed before the first guest write is answered (promise 2).
// - `incoming` becomes `gone` only on the source's durable word, or by the operator's force.

import type { Disk } from '../../disk/disk.ts'
import type { RemotePart } from '../../disk/io/of-state.ts'
import { Refusal } from '../../disk/refusal.ts'
import { unknownOwner } from '../../disk/states.ts'
import { NbdError } from '../../guest/export.ts'
import { LinkError, type PeerChannel, PeerRefusal } from '../../link/channel.ts'
import type { MigrationRecord } from '../../store/records.ts'
import type { CourseServices } from '../course.ts'
import { GuestsHere } from '../guest-notices.ts'
import type { WaitingGuests } from '../held-writes.ts'
import {
  acquireAnswer,
  cancelAnswer,
  flushAnswer,
  inquireAnswer,
  pauseMessage,
  switchoverMessage,
} from '../messages.ts'
import { clientAtWork, noAnswerToCancel, tooLate } from '../refusals.ts'
import { type Supersession, supersededNote } from '../supersession.ts'
import { ArrivingCourse } from './arriving-course.ts'
import { ForwardedFlushes } from './forwarded-flushes.ts'
import { ForwardedReads } from './forwarded-reads.ts'
import { Inquiry } from './inquiry.ts'
import type { PassedRightParts } from './passed-right.ts'
import { StayingReaders } from './staying-readers.ts'
import { SwitchoverAsker, type SwitchoverGrant } from './switchover-asker.ts'

export class DestinationCourse extends ArrivingCourse {
  readonly #asker: SwitchoverAsker
  #main: Promise<void> = Promise.resolve()
  readonly #armed = new AbortController()
  readonly #moved = Promise.withResolvers<void>()
  #going: Promise<void> | undefined
  /** The source's grant has arrived. */
  #hasGrant = false
  readonly #inquiry: Inquiry
  readonly #reads: ForwardedReads
  readonly #guests: GuestsHere
  readonly #flushes: ForwardedFlushes
  readonly #readers: StayingReaders
  /** As last heard; on record soon after. */
  #sourceBoot: string | null
  readonly #stopped = Promise.withResolvers<void>()
  /** Whether the source has told, since this daemon started, that it still owns. */
  #sourceConfirmed: boolean

  /**
   * The course of a disk in the state that its record names, and the disk, opened with it. `fresh`: the source has just
   * asked for it, so that nothing can have been granted yet.
   */
  static async open(
    services: CourseServices,
    record: MigrationRecord,
    channel: PeerChannel,
    fresh: boolean,
    openDisk: (remote: RemotePart) => Promise<Disk>,
  ): Promise<DestinationCourse> {
    // The disk needs its remote part when it is opened, and the course needs the disk: the part reaches the course late.
    let course: DestinationCourse | undefined
    const part: RemotePart = {
      source: { fetch: (runs, options) => course!.#reads.fetch(runs, options) },
      frozen: { fetch: (runs, options) => course!.fetchFrozen(runs, options) },
      askSwitchover: (signal) => course!.#askSwitchover(signal),
      flushSource: (signal) => course!.#flushes.flush(signal),
    }
    const disk = await openDisk(part)
    course = new DestinationCourse(services, disk, record, channel, fresh)
    return course
  }

  private constructor(
    services: CourseServices,
    disk: Disk,
    record: MigrationRecord,
    channel: PeerChannel,
    fresh: boolean,
  ) {
    super(services, disk, record, channel)
    this.#sourceConfirmed = fresh
    this.#inquiry = new Inquiry({
      clock: services.clock,
      signal: this.stopping.signal,
      ask: async (signal) => this.#hearBoot(inquireAnswer.parse(await this.call('inquire', {}, signal))),
      note: (sentence) => this.setNote(sentence),
    })
    this.#guests = new GuestsHere({
      ...services,
      course: this,
      stopping: this.stopping.signal,
      why: () => (this.#asker.active ? this.#asker.why : 'it is switched over by hand'),
      call: (method, params, signal) => this.call(method, params, signal),
      progressed: () => this.tell({ kind: 'progress' }),
    })
    this.#sourceBoot = record.sourceBoot
    const right: PassedRightParts = {
      diskName: disk.name,
      isIncoming: () => this.disk.state === 'incoming',
      isAcquiring: () => this.#asker.active,
      inquire: () => this.#inquiry.answer(),
      hasDeparted: () => this.#asker.command('resume'),
      isCancelled: () => this.#becomeGone(),
    }
    const generation = this.moved.generation - 1 // Of the source, until it has given the disk up.
    this.#reads = new ForwardedReads({ ...right, clock: services.clock, remote: () => this.remote(generation) })
    this.#flushes = new ForwardedFlushes({
      ...right,
      clock: services.clock,
      stallTimeoutMs: this.terms.stallTimeoutMs,
      signal: AbortSignal.any([this.working, this.#armed.signal]),
      ask: async (signal) => this.#hearBoot(flushAnswer.parse(await this.call('flush', { generation }, signal))),
      sourceBoot: () => this.#sourceBoot,
    })
    this.#readers = new StayingReaders({
      clock: services.clock,
      sessions: disk.sessions,
      signal: AbortSignal.any([this.stopping.signal, this.#armed.signal]),
      came: () => this.#readerStays(),
    })
    this.#asker = new SwitchoverAsker({
      clock: services.clock,
      waitMs: this.terms.switchoverWaitMs,
      signal: this.stopping.signal,
      isWanted: () => this.disk.state === 'incoming' && this.#going === undefined,
      acquire: async (reason, force, signal) => {
        const either = AbortSignal.any([this.stopping.signal, signal])
        const asked = { generation: this.moved.generation, reason, ...(force && { force }) }
        const answer = acquireAnswer.parse(await this.call('acquire', asked, either))
        return answer.answer === 'granted' ? this.#hearBoot(answer) : answer
      },
      hasDeparted: async () => {
        const { state } = await this.#inquiry.answer()
        if (state === 'cancelled') void this.#becomeGone().catch(() => {}) // At a stop, the next start does it.
        return state === 'departed'
      },
      granted: (grant, askedMs) => this.#granted(grant, askedMs),
      refused: (code, message) => this.#refused(code, message),
      note: (sentence) => this.setNote(sentence),
    })
  }

  get readyMessage(): string {
    const { switchover } = this.terms
    const diskName = this.moved.name
    if (switchover === 'now') return `${diskName} is served here, and is being taken over`
    if (switchover === 'manual')
      return `${diskName} is served here: move the machine, then: vmstore migration switchover ${this.id}`
    return `${diskName} is served here: move the machine now; its first write here switches over`
  }

  get guests(): WaitingGuests {
    return this.#guests.now
  }

  override linkChanged(isUp: boolean): void {
    super.linkChanged(isUp)
    if (isUp) this.#guests.again()
  }

  get liveState(): string {
    return this.#asker.active && this.disk.state === 'incoming' ? 'switching' : this.record.state
  }

  get owner(): string {
    if (this.disk.state !== 'incoming') return this.disk.record.owner
    return this.#asker.unanswered || !this.#sourceConfirmed ? unknownOwner : this.disk.record.owner
  }

  /** Starts, or takes up where a daemon that ended left off. */
  start(): void {
    this.disk.onSessions = () => this.#sessionsChanged()
    this.#sessionsChanged() // Clients may have come before.
    this.#main = this.#run().catch((error: unknown) => {
      if (this.stopping.signal.aborted) return
      this.services.log('error', { migration: this.id, error: String(error) }, 'the migration stopped here')
      this.setNote(`stopped: ${(error as Error).message}`)
    })
  }

  override stop(): void {
    super.stop()
    this.settleConfirmation()
    this.#armed.abort()
    this.#stopped.resolve()
  }

  /** Resolves when nothing of this course runs any more, after `stop`. */
  settled(): Promise<void> {
    return this.#main
  }

  /** What the source says. */
  async answer(method: string, params: unknown): Promise<object> {
    if (method === 'cancelled') await this.#becomeGone()
    else if (method === 'switchover') await this.#switchoverForPeer(switchoverMessage.parse(params).force ?? false)
    else if (method === 'writers-gone') this.#readersOnly()
    else if (method === 'pause') await toPeer(this.setPaused(pauseMessage.parse(params).paused))
    else throw new PeerRefusal('unknown-method', `a destination does not know ${method}`)
    return {}
  }

  /** The operator at the source: now. That the disk has left is no news there. */
  async #switchoverForPeer(force: boolean): Promise<void> {
    if (this.disk.state === 'incoming') await toPeer(this.switchover(force, this.stopping.signal))
  }

  /** The operator: now. Resolves when the source has answered; or is being asked, and does not answer yet. @throws Refusal */
  async switchover(force: boolean, signal: AbortSignal): Promise<void> {
    if (this.disk.state !== 'incoming') throw tooLate(this.disk, this.record, 'switched over')
    const answer = await this.#asker.order(force, signal)
    if (answer?.answer === 'busy') throw clientAtWork(this.disk.name, answer.why, false)
    if (answer?.answer !== 'refused') return
    const facts = { disk: this.disk.name, safe: 'Nothing was changed.' }
    throw new Refusal(answer.code, `the source refused the switchover: ${answer.message}`, facts)
  }

  /** Has the source decide. `force`: leaves without its answer. @throws Refusal */
  async cancel(force: boolean, signal: AbortSignal): Promise<void> {
    if (this.record.state === 'cancelled') return
    if (force && this.disk.state === 'owned' && !this.ended) return this.endUntold()
    if (this.disk.state !== 'incoming' || this.#hasGrant) throw tooLate(this.disk, this.record, 'cancelled')
    let answer: { cancelled: boolean; message: string } = { cancelled: true, message: '' }
    let owner = this.record.peerSite
    try {
      answer = cancelAnswer.parse(await this.call('cancel', {}, signal))
    } catch (error) {
      if (!(error instanceof LinkError) && !(error instanceof PeerRefusal)) throw error
      if (!force) throw noAnswerToCancel(this.disk.name, error)
      this.services.log('warn', { migration: this.id }, 'cancelled by force, without the source')
      owner = this.owner // Where the source was asked for the disk, and has not answered, nobody here knows.
    }
    if (!answer.cancelled)
      throw new Refusal('too-late', `the source refused to cancel: ${answer.message}`, { disk: this.disk.name })
    await this.#becomeGone(owner)
  }

  async #run(): Promise<void> {
    while (!this.stopping.signal.aborted && !this.ended) {
      if (this.supersededBy) return this.#becomeSuperseded(this.supersededBy)
      try {
        if (!(await this.#step())) return
      } catch (error) {
        if (!this.supersededBy && !this.ended) throw error
      }
    }
  }

  /** False: there is nothing left to do. */
  async #step(): Promise<boolean> {
    const { state } = this.disk
    if (state === 'incoming') await this.#awaitSwitchover()
    else if (state === 'arriving') await this.copy()
    else if (state === 'owned') await this.finish()
    else return false
    return true
  }

  /** A later generation exists elsewhere, says a peer. */
  async supersede(by: Supersession): Promise<void> {
    this.leave(by)
    await this.#main
    if (!this.ended && !this.stopping.signal.aborted) await this.#becomeSuperseded(by) // It had stopped before.
  }

  /** Nobody is served here any more, and the bytes stay. */
  async #becomeSuperseded(by: Supersession): Promise<void> {
    const { generation, owner } = by
    const note = supersededNote(by)
    this.services.log('error', { migration: this.id, disk: this.disk.name, generation }, note)
    await this.disk.gate.freeze() // Requests in flight end first, against the file that they began with.
    await this.recorded('that the disk is superseded', () =>
      this.update({ ...this.ending('failed', owner), note }, (change) =>
        this.disk.move('superseded', { generation, owner, migrationId: null }, [change]),
      ),
    )
    this.disk.gate.thaw()
    this.settleConfirmation()
    this.tell({ kind: 'ended' })
  }

  // ---- incoming

  async #awaitSwitchover(): Promise<void> {
    const moved = this.#moved.promise
    const answer = await Promise.race([this.#inquiry.answer(), moved.then(() => undefined)])
    if (answer === undefined || this.disk.state !== 'incoming') return
    const { state, writersAreGone } = answer
    if (state === 'cancelled') return this.#becomeGone()
    if (state === 'departed')
      this.#asker.command('resume') // It was granted, and the answer was lost.
    else if (state === 'preparing' || state === 'ready') this.#sourceConfirmed = true
    else this.setNote(`the source says ${state} of ${this.disk.name}: look at both sites with vmstore disk show`)
    if (this.terms.switchover === 'now') this.#switchoverNow()
    else if (writersAreGone) this.#readersOnly()
    await Promise.race([moved, this.#stopped.promise])
  }

  #switchoverNow(): void {
    if (this.disk.state === 'incoming') this.#asker.command('operator')
  }

  /** Every writer at the source has said goodbye: a guest that only reads, and stays, is not served from afar for ever. */
  #readersOnly(): void {
    if (this.#readers.any && this.#isForReaders) this.#asker.command('reader-only')
  }

  get #isForReaders(): boolean {
    return this.disk.state === 'incoming' && this.terms.switchover === 'auto'
  }

  #sessionsChanged(): void {
    if (!this.#isForReaders) return
    this.#readers.changed()
    if (this.#readers.any) this.#readerStays()
  }

  #readerStays(): void {
    if (!this.#isForReaders) return
    void this.#inquiry.answer().then(
      ({ writersAreGone }) => writersAreGone && this.#readersOnly(),
      () => {},
    )
  }

  async #askSwitchover(signal: AbortSignal): Promise<void> {
    this.stopping.signal.throwIfAborted()
    if (this.record.state === 'cancelled') throw new NbdError('ESHUTDOWN', `migration ${this.id} is cancelled`)
    const isManual = this.terms.switchover === 'manual' && !this.#asker.active
    await this.#guests.hold(() => (isManual ? this.#awaitOperator(signal) : this.#asker.waitForGuest(signal)))
  }

  /** `--switchover manual`: a write waits for the operator's word, as long as it would for a busy source. */
  async #awaitOperator(signal: AbortSignal): Promise<void> {
    const { clock } = this.services
    const timeout = clock.sleep(this.terms.switchoverWaitMs, AbortSignal.any([signal, this.#armed.signal])).then(
      () => {
        throw new NbdError(
          'EPERM',
          `${this.disk.name} is switched over by hand: vmstore migration switchover ${this.id}`,
        )
      },
      () => {
        signal.throwIfAborted()
        this.stopping.signal.throwIfAborted() // Only the end of waiting for the operator lets the write go on.
      },
    )
    await Promise.race([this.#moved.promise, timeout])
  }

  /** The source runs under this boot, or gave the disk up under it. Whatever waits for its sync has to know at once. */
  #hearBoot<Answer extends { readonly boot?: string | undefined }>(answer: Answer): Answer {
    const { boot } = answer
    if (boot === undefined || boot === this.#sourceBoot || this.ended) return answer
    this.#sourceBoot = boot
    this.update({ sourceBoot: boot }).catch(() => {}) // A start that does not know it has a flush fail that need not have.
    return answer
  }

  /** Makes the grant durable here, however long it takes: the source has given up. */
  async #granted({ powerLoss, cutOff = [] }: SwitchoverGrant, askedMs: number): Promise<void> {
    const { generation } = this.moved
    this.#hasGrant = true // From here on there is no leaving: the source has given the disk up.
    await this.recorded('that this site owns it now', () => {
      const switchoverMs = this.services.clock.now() - askedMs
      const switched = { switchedAt: this.now(), switchoverMs, cutOff, disk: { owner: this.services.siteId } }
      return this.update({ state: 'copying', ...switched, refusedWrites: this.guests.refused }, (change) =>
        this.disk.beginArriving(generation, powerLoss ?? null, [change]),
      )
    })
    this.tellCutOff()
    this.tell({ kind: 'switchover' })
    this.#leaveIncoming()
  }

  async #refused(code: string, message: string): Promise<void> {
    if (code === 'cancelled') await this.#becomeGone()
    else this.setNote(`the source refused the switchover: ${message}`)
  }

  /** The source says that this migration is cancelled, on several ways at once perhaps. `owner`: it has not said so. */
  #becomeGone(owner = this.record.peerSite): Promise<void> {
    this.#going ??= this.#leave(owner).finally(() => {
      this.#going = undefined
    })
    return this.#going
  }

  async #leave(owner: string): Promise<void> {
    if (this.disk.state !== 'incoming') return
    if (this.#hasGrant) throw tooLate(this.disk, this.record, 'cancelled')
    this.#asker.end(new NbdError('ESHUTDOWN', `migration ${this.id} of ${this.disk.name} is cancelled`))
    await this.recorded('that the migration is cancelled', () =>
      this.update(this.ending('cancelled', owner), (change) => this.disk.abandonIncoming([change])),
    )
    this.#leaveIncoming()
    this.tell({ kind: 'ended' })
  }

  #leaveIncoming(): void {
    this.#armed.abort()
    this.#moved.resolve()
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
