// The destination's course of one migration: serve the disk before it owns it, acquire it, fetch what is missing, and
// release the source.
//
// What always holds:
// - `arriving` is committed before the first guest write is answered (promise 2).
// - `incoming` becomes `gone` only on the source's durable word, or by the operator's force.
// - `owned` is committed, with every byte durable, before the source is told that it may be released (promise 8).

import type { BlockSource } from '../disk/block-source.ts'
import type { Disk, RemotePart } from '../disk/disk.ts'
import { Refusal } from '../disk/refusal.ts'
import { unknownOwner } from '../disk/states.ts'
import { LinkError, type PeerChannel, PeerRefusal, type Piece } from '../link/channel.ts'
import { NbdError } from '../nbd/export.ts'
import { blockSizeBytes } from '../store/block-map.ts'
import type { MigrationCounters, MigrationRecord } from '../store/records.ts'
import { BackgroundCopy, type Extent } from './background-copy.ts'
import { Course, type CourseServices } from './course.ts'
import {
  acquireAnswer,
  cancelAnswer,
  digestsAnswer,
  extentsAnswer,
  type InquireAnswer,
  inquireAnswer,
} from './messages.ts'
import { RateLimit } from './rate-limit.ts'
import { noAnswerToCancel, tooLate } from './refusals.ts'
import { RemoteBlocks, retryDelayMs } from './remote-blocks.ts'
import { SwitchoverAsker } from './switchover-asker.ts'
import { Verification } from './verification.ts'

const commitRetryMs = 1000
const troublePauseMs = 1000
const reportEveryMs = 500
/** The counters are put on record once in so many reports. */
const roundsPerRecord = 10
const informTimeoutMs = 5000
/** While the source's right is passing on, a forwarded read looks again after this. */
const passingPauseMs = 20

export class DestinationCourse extends Course {
  readonly #asker: SwitchoverAsker
  readonly #limit: RateLimit
  readonly #counters: { data: number; sent: number; skippedZero: number; resent: number }
  #main: Promise<void> = Promise.resolve()
  readonly #armed = new AbortController()
  readonly #moved = Promise.withResolvers<void>()
  #going: Promise<void> | undefined
  /** The source's grant has arrived. */
  #hasGrant = false
  #inquiring: Promise<InquireAnswer> | undefined
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
      source: { fetch: (runs, options) => course!.#forward(runs, options) },
      frozen: { fetch: (runs, options) => course!.#fetchFrozen(runs, options) },
      askSwitchover: (signal) => course!.#askSwitchover(signal),
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
    this.#counters = { ...record.counters }
    this.#limit = new RateLimit(services.clock, record.maxRate)
    this.#asker = new SwitchoverAsker({
      clock: services.clock,
      waitMs: record.switchoverWaitMs,
      signal: this.stopping.signal,
      isWanted: () => this.disk.state === 'incoming' && this.#going === undefined,
      acquire: async (reason, signal) => {
        const either = AbortSignal.any([this.stopping.signal, signal])
        return acquireAnswer.parse(await this.#call('acquire', { generation: record.generation, reason }, either))
      },
      hasDeparted: async () => {
        const { state } = await this.#inquire()
        if (state === 'cancelled') void this.#becomeGone().catch(() => {}) // At a stop, the next start does it.
        return state === 'departed'
      },
      granted: (askedMs) => this.#granted(askedMs),
      refused: (code, message) => this.#refused(code, message),
      note: (sentence) => this.setNote(sentence),
    })
    if (disk.arrival) this.missingBytes = disk.arrival.missingBlocks * blockSizeBytes
    if (record.state === 'finishing') this.missingBytes = 0
  }

  get readyMessage(): string {
    const { diskName, switchover } = this.record
    if (switchover === 'now') return `${diskName} is served here, and is being taken over`
    if (switchover === 'manual')
      return `${diskName} is served here: move the machine, then: vmstore migration switchover ${this.id}`
    return `${diskName} is served here: move the machine now; its first write here switches over`
  }

  get counters(): MigrationCounters {
    const { data, sent, skippedZero } = this.#counters
    return { data, sent, skippedZero, resent: Math.max(sent - data, 0) }
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
    this.#main = this.#run().catch((error: unknown) => {
      if (this.stopping.signal.aborted) return
      this.services.log('error', { migration: this.id, error: String(error) }, 'the migration stopped here')
      this.setNote(`stopped: ${(error as Error).message}`)
    })
  }

  override stop(): void {
    super.stop()
    this.#armed.abort()
    this.#stopped.resolve()
  }

  /** Resolves when nothing of this course runs any more, after `stop`. */
  settled(): Promise<void> {
    return this.#main
  }

  /** What the source says. */
  async answer(method: string): Promise<object> {
    if (method === 'cancelled') await this.#becomeGone()
    else if (method === 'switchover') this.#switchoverNow()
    else if (method === 'writers-gone') this.#readersOnly()
    else throw new PeerRefusal('unknown-method', `a destination does not know ${method}`)
    return {}
  }

  /** The operator here: now. */
  async switchover(): Promise<void> {
    if (this.disk.state !== 'incoming') throw tooLate(this.disk, this.record, 'switched over')
    this.#switchoverNow()
  }

  /** Has the source decide. `force`: leaves without its answer. @throws Refusal */
  async cancel(force: boolean, signal: AbortSignal): Promise<void> {
    if (this.record.state === 'cancelled') return
    if (this.disk.state !== 'incoming' || this.#hasGrant) throw tooLate(this.disk, this.record, 'cancelled')
    let answer: { cancelled: boolean; message: string } = { cancelled: true, message: '' }
    try {
      answer = cancelAnswer.parse(await this.#call('cancel', {}, signal))
    } catch (error) {
      if (!(error instanceof LinkError) && !(error instanceof PeerRefusal)) throw error
      if (!force) throw noAnswerToCancel(this.disk.name, error)
      this.services.log('warn', { migration: this.id }, 'cancelled by force, without the source')
    }
    if (!answer.cancelled)
      throw new Refusal('too-late', `the source refused to cancel: ${answer.message}`, { disk: this.disk.name })
    await this.#becomeGone()
  }

  async #run(): Promise<void> {
    while (!this.stopping.signal.aborted && !this.ended) {
      const { state } = this.disk
      if (state === 'incoming') await this.#awaitSwitchover()
      else if (state === 'arriving') await this.#copy()
      else if (this.record.state === 'finishing') await this.#finish()
      else return
    }
  }

  // ---- incoming

  async #awaitSwitchover(): Promise<void> {
    const moved = this.#moved.promise
    const { state, writersAreGone } = await this.#inquire()
    if (this.disk.state !== 'incoming') return
    if (state === 'cancelled') return this.#becomeGone()
    if (state === 'departed')
      this.#asker.command('resume') // It was granted, and the answer was lost.
    else if (state === 'preparing' || state === 'ready') this.#sourceConfirmed = true
    else this.setNote(`the source says ${state} of ${this.disk.name}: look at both sites with vmstore disk show`)
    if (this.record.switchover === 'now') this.#switchoverNow()
    else if (writersAreGone) this.#readersOnly()
    await Promise.race([moved, this.#stopped.promise])
  }

  /** How the migration stands at the source: one question at a time, for all who want to know. */
  #inquire(): Promise<InquireAnswer> {
    this.#inquiring ??= this.#askHowItStands().finally(() => {
      this.#inquiring = undefined
    })
    return this.#inquiring
  }

  /** Asks until it is answered. */
  async #askHowItStands(): Promise<InquireAnswer> {
    for (let attempt = 1; ; attempt++) {
      try {
        return inquireAnswer.parse(await this.#call('inquire', {}, this.stopping.signal))
      } catch (error) {
        this.stopping.signal.throwIfAborted()
        if (!(error instanceof LinkError) && !(error instanceof PeerRefusal)) throw error
        this.setNote(`the source does not answer: ${error.message}`)
        await this.services.clock.sleep(retryDelayMs(attempt), this.stopping.signal)
      }
    }
  }

  #switchoverNow(): void {
    if (this.disk.state === 'incoming') this.#asker.command('operator')
  }

  /** Every writer at the source has said goodbye: a guest that only reads is not served from afar for ever. */
  #readersOnly(): void {
    const open = this.disk.sessions.count > 0 && this.record.switchover === 'auto'
    if (open && this.disk.state === 'incoming') this.#asker.command('reader-only')
  }

  #sessionsChanged(): void {
    if (this.disk.state !== 'incoming' || this.disk.sessions.count === 0 || this.record.switchover !== 'auto') return
    void this.#inquire().then(
      ({ writersAreGone }) => writersAreGone && this.#readersOnly(),
      () => {},
    )
  }

  async #askSwitchover(signal: AbortSignal): Promise<void> {
    this.stopping.signal.throwIfAborted()
    if (this.record.state === 'cancelled') throw new NbdError('ESHUTDOWN', `migration ${this.id} is cancelled`)
    if (this.record.switchover !== 'manual' || this.#asker.active) return this.#asker.waitForGuest(signal)
    await this.#awaitOperator(signal)
  }

  /** `--switchover manual`: a write waits for the operator's word, as long as it would for a busy source. */
  async #awaitOperator(signal: AbortSignal): Promise<void> {
    const { clock } = this.services
    const timeout = clock.sleep(this.record.switchoverWaitMs, AbortSignal.any([signal, this.#armed.signal])).then(
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

  /** Makes the grant durable here, however long it takes: the source has given up. */
  async #granted(askedMs: number): Promise<void> {
    const { generation } = this.record
    this.#hasGrant = true // From here on there is no leaving: the source has given the disk up.
    await this.#recorded('that this site owns it now', () => {
      const switchoverMs = this.services.clock.now() - askedMs
      return this.update({ state: 'copying', switchedAt: this.now(), switchoverMs }, (change) =>
        this.disk.beginArriving(generation, [change]),
      )
    })
    this.tell({ kind: 'switchover' })
    this.#leaveIncoming()
  }

  /** What has to be on record is tried until it is: the file system may be full for a while. A failed sync is final. */
  async #recorded(what: string, work: () => Promise<void>): Promise<void> {
    for (;;) {
      try {
        await work()
        return
      } catch (error) {
        this.stopping.signal.throwIfAborted()
        if (this.disk.trouble) throw error
        this.setNote(
          `${this.disk.name}: it cannot be recorded ${what} (${(error as Error).message}); it is tried again`,
        )
        await this.services.clock.sleep(commitRetryMs, this.stopping.signal)
      }
    }
  }

  async #refused(code: string, message: string): Promise<void> {
    if (code === 'cancelled') await this.#becomeGone()
    else this.setNote(`the source refused the switchover: ${message}`)
  }

  /** The source says that this migration is cancelled. It may say so on several ways at once. */
  #becomeGone(): Promise<void> {
    this.#going ??= this.#leave().finally(() => {
      this.#going = undefined
    })
    return this.#going
  }

  async #leave(): Promise<void> {
    if (this.disk.state !== 'incoming') return
    if (this.#hasGrant) throw tooLate(this.disk, this.record, 'cancelled')
    this.#asker.end(new NbdError('ESHUTDOWN', `migration ${this.id} of ${this.disk.name} is cancelled`))
    await this.#recorded('that the migration is cancelled', () =>
      this.update({ state: 'cancelled', endedAt: this.now() }, (change) => this.disk.abandonIncoming([change])),
    )
    this.#leaveIncoming()
    this.tell({ kind: 'ended' })
  }

  #leaveIncoming(): void {
    this.#armed.abort()
    this.#moved.resolve()
  }

  // ---- arriving

  async #copy(): Promise<void> {
    const ended = new AbortController()
    const reports = this.#report(ended.signal)
    try {
      void this.#sayTaken(AbortSignal.any([ended.signal, this.stopping.signal])).catch(() => {}) // Given up when the copy ends.
      const copy = new BackgroundCopy(
        {
          disk: this.disk,
          clock: this.services.clock,
          source: this.#remote(this.record.generation),
          extents: (offset, lengthBytes, signal) => this.#extents(offset, lengthBytes, signal),
          limit: this.#limit,
          landed: (bytes, isData) => this.#landed(bytes, isData),
          trouble: (sentence) => this.setNote(sentence),
        },
        this.stopping.signal,
      )
      await copy.run()
      while (!(await this.#isVerified())) await copy.run()
      await this.#own()
    } finally {
      ended.abort()
      await reports
    }
  }

  /** Whether what is here is what the source has. What is not is missing again. */
  async #isVerified(): Promise<boolean> {
    const { clock, log } = this.services
    this.tell({ kind: 'step', message: 'every block is here, and is being compared with the source' })
    for (;;) {
      const verification = new Verification(
        {
          disk: this.disk,
          extents: (offset, lengthBytes, signal) => this.#extents(offset, lengthBytes, signal),
          digests: async (runs, signal) => {
            const params = { generation: this.record.generation, runs }
            return digestsAnswer.parse(await this.#call('digests', params, signal)).digests
          },
          differs: ({ offset, length }) =>
            log(
              'error',
              { migration: this.id, disk: this.disk.name, offset, length },
              'a range differs from the source: it is fetched again',
            ),
        },
        this.stopping.signal,
      )
      try {
        const differing = await verification.run()
        this.setNote(null)
        return differing === 0
      } catch (error) {
        this.stopping.signal.throwIfAborted()
        if (this.disk.trouble) throw error
        this.setNote(`every block is here; the comparison with the source waits: ${(error as Error).message}`)
        await clock.sleep(troublePauseMs, this.stopping.signal)
      }
    }
  }

  /** Until it is heard, the source would answer a repeated acquire. `complete` says it too. */
  async #sayTaken(signal: AbortSignal): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#call('taken', { generation: this.record.generation }, signal)
        return
      } catch (error) {
        signal.throwIfAborted()
        if (error instanceof PeerRefusal && ['stale', 'migration-unknown'].includes(error.code)) return
        await this.services.clock.sleep(retryDelayMs(attempt), signal)
      }
    }
  }

  async #own(): Promise<void> {
    this.missingBytes = 0
    const verified = this.disk.arrival?.isComparable ?? false
    await this.#recorded('that every block is here', () =>
      this.update({ state: 'finishing', counters: this.counters, verified }, (change) =>
        this.disk.finishArriving([change]),
      ),
    )
    this.tell({ kind: 'step', message: 'every block is here; the source is being released' })
  }

  async #finish(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#call('complete', this.#completion, this.stopping.signal)
        break
      } catch (error) {
        this.stopping.signal.throwIfAborted()
        // The source has moved on since, or knows nothing of it any more.
        if (error instanceof PeerRefusal && ['stale', 'migration-unknown'].includes(error.code)) break
        this.setNote(`every block is here; the source is not released yet: ${(error as Error).message}`)
        await this.services.clock.sleep(retryDelayMs(attempt), this.stopping.signal)
      }
    }
    this.setNote(null)
    await this.#recorded('that the migration is over', () =>
      this.update({ state: 'done', endedAt: this.now(), counters: this.counters }, (change) =>
        this.disk.note({ migrationId: null }, [change]),
      ),
    )
    this.tell({ kind: 'ended' })
  }

  get #completion(): object {
    const { generation, verified } = this.record
    return { generation, ...this.counters, verified }
  }

  async #extents(offset: number, lengthBytes: number, signal: AbortSignal): Promise<readonly Extent[]> {
    const params = { generation: this.record.generation, offset, length: lengthBytes }
    const { extents } = extentsAnswer.parse(await this.#call('extents', params, signal))
    let at = offset
    return extents.map(({ length, data }) => {
      const extent = { offset: at, length, data }
      at += length
      return extent
    })
  }

  #remote(generation: number): BlockSource {
    return new RemoteBlocks({
      channel: this.channel,
      clock: this.services.clock,
      migration: this.id,
      generation,
      received: (piece) => this.#received(piece),
    })
  }

  /** A guest's demand fetch. What lands of it is counted as it lands. */
  async *#fetchFrozen(...[runs, options]: Parameters<BlockSource['fetch']>): AsyncGenerator<Piece> {
    for await (const piece of this.#remote(this.record.generation).fetch(runs, options)) {
      const before = this.disk.arrival?.missingBlocks ?? 0
      yield piece // The disk lands it before it asks for the next.
      const landed = (before - (this.disk.arrival?.missingBlocks ?? 0)) * blockSizeBytes
      if (landed > 0) this.#landed(Math.min(landed, piece.length), piece.bytes !== undefined)
    }
  }

  /** Reads of an incoming disk: of the source's newest bytes, under the generation that it still has. */
  async *#forward(...[runs, options]: Parameters<BlockSource['fetch']>): AsyncGenerator<Piece> {
    const remote = this.#remote(this.record.generation - 1)
    for (;;) {
      try {
        yield* remote.fetch(runs, options)
        return
      } catch (error) {
        options.signal.throwIfAborted()
        if (this.disk.state !== 'incoming') return // Read again, in the state that the disk has now.
        if (!(error instanceof PeerRefusal && error.code === 'no-right')) throw error
        // The source has departed, and its grant is on the way here; or the migration was cancelled there. A grant whose
        // answer was lost is found by asking again.
        if (!this.#asker.active) await this.#lookAgain()
        await this.services.clock.sleep(passingPauseMs, options.signal)
      }
    }
  }

  async #lookAgain(): Promise<void> {
    const { state } = await this.#inquire()
    if (state === 'cancelled') await this.#becomeGone()
    else if (state === 'departed' && this.disk.state === 'incoming') this.#asker.command('resume')
    else if (state === 'taken' || state === 'released') {
      throw new NbdError(
        'EIO',
        `the source says that ${this.disk.name} was taken already: this site was restored from an old copy`,
      )
    }
  }

  #received(piece: Piece): void {
    if (piece.bytes && this.disk.state !== 'incoming') this.#counters.sent += piece.length
  }

  #landed(bytes: number, isData: boolean): void {
    if (isData) this.#counters.data += bytes
    else this.#counters.skippedZero += bytes
    this.meter.add(bytes)
    this.missingBytes = (this.disk.arrival?.missingBlocks ?? 0) * blockSizeBytes
  }

  /** Tells listeners here, and the source, how far it is. */
  async #report(ended: AbortSignal): Promise<void> {
    const { clock } = this.services
    const signal = AbortSignal.any([ended, this.stopping.signal])
    for (let round = 1; !signal.aborted; round++) {
      if (round % roundsPerRecord === 0) await this.update({ counters: this.counters }).catch(() => {}) // Figures only.
      this.tell({ kind: 'progress' })
      const timeout = new AbortController()
      const late = clock.sleep(informTimeoutMs, AbortSignal.any([signal, timeout.signal])).then(
        () => timeout.abort(),
        () => {},
      )
      const facts = { ...this.counters, missing: this.missingBytes, note: this.note }
      await this.#call('progress', facts, AbortSignal.any([signal, timeout.signal])).catch(() => {})
      timeout.abort()
      await late
      await clock.sleep(reportEveryMs, signal).catch(() => {})
    }
  }

  #call(method: string, params: object, signal: AbortSignal): Promise<unknown> {
    return this.channel.call(method, { migration: this.id, ...params }, { signal })
  }
}
