// What the destination does once it owns: fetches what is missing, has it compared with the source (comparisons.ts), and has
// the source released. The part of its course that comes before is in destination-course.ts.
//
// What always holds: `owned` is committed, with every byte durable and compared, before the source is told that it may be
// released (promise 8).

import { blockSizeBytes } from '../../block/block-map.ts'
import type { BlockSource, Run } from '../../disk/block-source.ts'
import type { Disk } from '../../disk/disk.ts'
import { type PeerChannel, PeerRefusal, type Piece, wholeBody } from '../../link/channel.ts'
import type { MigrationCounters, MigrationRecord } from '../../store/records.ts'
import { BackgroundCopy, type Extent } from '../copy/background-copy.ts'
import { type Comparison, Comparisons } from '../copy/comparisons.ts'
import { CopyTime } from '../copy/copy-time.ts'
import { DataSurvey } from '../copy/data-survey.ts'
import { Pause } from '../copy/pause.ts'
import { RateLimit } from '../copy/rate-limit.ts'
import { Course, type CourseServices, type Pace } from '../course.ts'
import { digestBytes, digestsAnswer, extentsAnswer, sentAnswer } from '../messages.ts'
import { nothingToPause, pauseSentence } from '../refusals.ts'
import { movedOnCodes, type Supersession, supersessionIn } from '../supersession.ts'
import { merged, namedRanges } from '../unreadable.ts'
import { DestinationNotices } from './destination-notices.ts'
import { RemoteBlocks, retryDelayMs } from './remote-blocks.ts'

const commitRetryMs = 1000

export abstract class ArrivingCourse extends Course {
  readonly #limit: RateLimit
  readonly #pause: Pause
  readonly #comparisons: Comparisons
  readonly #notices: DestinationNotices
  readonly #copyTime: CopyTime
  readonly #survey: DataSurvey
  readonly #counters: { data: number; sent: number; skippedZero: number; resent: number }

  /** The source's word that a later generation exists. */
  protected supersededBy: Supersession | undefined
  readonly #leaving = new AbortController()
  /** Ends when this site stops, and when the disk is superseded. */
  protected readonly working: AbortSignal

  constructor(services: CourseServices, disk: Disk, record: MigrationRecord, channel: PeerChannel) {
    super(services, disk, record, channel)
    this.working = AbortSignal.any([this.stopping.signal, this.#leaving.signal])
    this.#counters = { ...record.counters }
    this.#limit = new RateLimit(services.clock, record.maxRate)
    this.#pause = new Pause(record.paused)
    this.#copyTime = new CopyTime(services.clock, record.copyingMs)
    this.#copyTime.set('pause', record.paused)
    this.#survey = new DataSurvey({
      sizeBytes: disk.sizeBytes,
      clock: services.clock,
      arrival: () => this.disk.arrival,
      extents: (offset, lengthBytes, signal) => this.#extents(offset, lengthBytes, signal),
    })
    this.#notices = new DestinationNotices({
      course: this,
      clock: services.clock,
      stopping: this.stopping.signal,
      call: (method, params, signal) => this.call(method, params, signal),
      update: (changes) => this.update(changes),
      mark: (mark) => this.update({ mark }, (change) => this.disk.noteMapLog([change])),
      note: (sentence) => this.setNote(sentence),
      reported: (answer) => this.#hearSent(answer),
      progressed: () => this.tell({ kind: 'progress' }),
    })
    this.#comparisons = new Comparisons({
      migration: record.id,
      disk,
      clock: services.clock,
      log: services.log,
      pause: this.#pause,
      working: this.working,
      extents: (offset, lengthBytes, signal) => this.#extents(offset, lengthBytes, signal),
      digests: (runs, signal) => this.#digests(runs, signal),
      recordDiffering: (differing) => this.#recordDiffering(differing),
      note: (sentence) => this.setNote(sentence),
    })
    if (disk.arrival) this.missingBytes = disk.arrival.missingBlocks * blockSizeBytes
    if (disk.state === 'owned') this.missingBytes = 0
  }

  get counters(): MigrationCounters {
    return { ...this.#counters }
  }

  get copyingMs(): number {
    return this.#copyTime.ms
  }

  protected get livePace(): Pace {
    const rate = this.meter.rate()
    const left = this.#survey.missingBytes
    return { rate, secondsLeft: rate > 0 && left !== undefined ? left / rate : null }
  }

  override linkChanged(isUp: boolean): void {
    this.#copyTime.set('link', !isUp)
    super.linkChanged(isUp)
  }

  /**
   * What has to be on record is tried until it is, or `signal` aborts: the file system may be full for a while. A failed
   * sync of the disk is final, where the work needs one.
   */
  protected async recorded(what: string, work: () => Promise<void>, signal = this.stopping.signal): Promise<void> {
    for (;;) {
      try {
        await work()
        return
      } catch (error) {
        signal.throwIfAborted()
        if (this.disk.isFinal(error)) throw error
        this.setNote(
          `${this.disk.name}: it cannot be recorded ${what} (${(error as Error).message}); it is tried again`,
        )
        await this.services.clock.sleep(commitRetryMs, signal)
      }
    }
  }

  /** Holds the background copy, or lets it go on; durable before it is answered. @throws Refusal */
  async setPaused(paused: boolean): Promise<void> {
    if (this.ended || this.record.state === 'finishing') throw nothingToPause(this.record, paused)
    if (paused === this.record.paused) return
    await this.update({ paused })
    this.#pause.set(paused)
    this.#copyTime.set('pause', paused)
    this.tell({ kind: 'step', message: pauseSentence(paused) })
    this.#notices.paused()
  }

  protected async copy(): Promise<void> {
    const ended = new AbortController()
    const signal = AbortSignal.any([ended.signal, this.working])
    const reports = this.#notices.report(signal)
    try {
      void this.#notices.sayTaken(signal).catch(() => {}) // Given up when the copy ends.
      void this.#survey.run(signal).catch(() => {}) // So is this.
      const copy = new BackgroundCopy(
        {
          disk: this.disk,
          clock: this.services.clock,
          source: this.remote(this.record.generation),
          extents: (offset, lengthBytes, extentsSignal) => this.#extents(offset, lengthBytes, extentsSignal),
          limit: this.#limit,
          pause: this.#pause,
          landed: (...landed) => this.#landed(...landed),
          freeBytes: () => this.services.freeBytes(),
          trouble: (sentence, unreadable) => {
            this.unreadable = unreadable
            this.#copyTime.set('trouble', sentence !== null)
            this.setNote(sentence)
          },
        },
        this.working,
      )
      do {
        this.#copyTime.set('idle', false)
        await copy.run()
        this.#copyTime.set('idle', true)
        this.tell({ kind: 'step', message: 'every block has come, and is being compared with the source' })
      } while (!(await this.#comparisons.isLast()))
      await this.#notices.heard(this.working) // An old copy of this site must not have the source released.
      await this.#own()
    } finally {
      this.#copyTime.set('idle', true)
      ended.abort()
      await reports
    }
  }

  /** `disk verify`: compares what is here, and was not written here, with the source. @throws Refusal, LinkError, PeerRefusal */
  verify(signal: AbortSignal): Promise<Comparison> {
    return this.#comparisons.ask(signal)
  }

  /** They are named at the end, at both sites. That they are missing is durable first: a power loss must not bring them back. */
  async #recordDiffering(differing: readonly Run[]): Promise<void> {
    if (differing.length === 0) return
    await this.recorded('that it differed from the source', () => this.disk.flush(), this.working)
    const differed = merged([...this.record.differed, ...differing]).slice(0, namedRanges)
    await this.update({ differed }).catch(() => {}) // The log has them, and what they said is missing again already.
  }

  /** Resolves once the source has confirmed that this is no old copy of the disk, or the disk is not arriving any more. */
  get confirmed(): Promise<void> {
    return this.disk.state === 'arriving' ? this.#notices.confirmed : Promise.resolve()
  }

  async #own(): Promise<void> {
    this.missingBytes = 0
    const verified = this.disk.arrival?.isComparable ?? false
    await this.recorded(
      'that every block has come',
      () =>
        this.update({ state: 'finishing', counters: this.counters, verified }, (change) =>
          this.disk.finishArriving([change]),
        ),
      this.working,
    )
    this.tell({ kind: 'step', message: 'every block has come; the source is being released' })
  }

  protected async finish(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        this.#hearSent(await this.call('complete', this.#completion, this.working))
        break
      } catch (error) {
        this.working.throwIfAborted()
        if (error instanceof PeerRefusal && movedOnCodes.includes(error.code)) break
        this.setNote(`every block has come; the source is not released yet: ${(error as Error).message}`)
        await this.services.clock.sleep(retryDelayMs(attempt), this.working)
      }
    }
    this.setNote(null)
    await this.recorded(
      'that the migration is over',
      () =>
        this.update({ ...this.ending('done', this.services.siteId), counters: this.counters }, (change) =>
          this.disk.note({ migrationId: null }, [change]),
        ),
      this.working,
    )
    this.tell({ kind: 'ended' })
  }

  /** Everything is here, and the operator does not wait for the source any longer: it is told when it comes back. */
  protected async endUntold(): Promise<void> {
    const note = 'ended without the source, which is told when it comes back'
    const over = this.ending('done', this.services.siteId)
    const ended = { ...over, counters: this.counters, sourceTold: false, note }
    await this.update(ended, (change) => this.disk.note({ migrationId: null }, [change]))
    this.#leaving.abort(new Error('the migration was ended by force'))
    this.tell({ kind: 'ended' })
  }

  get #completion(): object {
    const { generation, verified, differed } = this.record
    return { generation, ...this.counters, verified, differed, copyingMs: this.copyingMs }
  }

  async #extents(offset: number, lengthBytes: number, signal: AbortSignal): Promise<readonly Extent[]> {
    const params = { generation: this.record.generation, offset, length: lengthBytes }
    const { extents } = extentsAnswer.parse(await this.call('extents', params, signal))
    let at = offset
    return extents.map(({ length, data }) => {
      const extent = { offset: at, length, data }
      at += length
      return extent
    })
  }

  async #digests(runs: readonly Run[], signal: AbortSignal): Promise<readonly string[]> {
    const params = { migration: this.id, generation: this.record.generation, runs }
    const maximumBytes = runs.length * digestBytes
    try {
      const { answer, body } = await this.channel.callForBody('digests', params, { maximumBytes, signal })
      digestsAnswer.parse(answer)
      const all = await wholeBody(body, maximumBytes)
      return runs.map((_run, index) => all.toString('base64', index * digestBytes, (index + 1) * digestBytes))
    } catch (error) {
      this.#heed(error)
      throw error
    }
  }

  protected remote(generation: number): BlockSource {
    return new RemoteBlocks({
      channel: this.channel,
      refused: (error) => this.#heed(error),
      clock: this.services.clock,
      migration: this.id,
      generation,
      stallTimeoutMs: this.record.stallTimeoutMs,
    })
  }

  /** A guest's demand fetch. What lands of it is counted as it lands. */
  protected async *fetchFrozen(...[runs, options]: Parameters<BlockSource['fetch']>): AsyncGenerator<Piece> {
    const signal = AbortSignal.any([options.signal, this.#leaving.signal])
    for await (const piece of this.remote(this.record.generation).fetch(runs, { ...options, signal })) {
      const before = this.disk.arrival?.missingBlocks ?? 0
      yield piece // The disk lands it before it asks for the next.
      const landed = (before - (this.disk.arrival?.missingBlocks ?? 0)) * blockSizeBytes
      if (landed > 0)
        this.#landed(Math.min(landed, piece.length), piece.bytes !== undefined, piece.offset, piece.hole ?? false)
    }
  }

  /** The source counts what it sends; here it is kept, should the source start anew. */
  #hearSent(answer: unknown): void {
    const { sent = 0, resent = 0 } = sentAnswer.parse(answer)
    this.#counters.sent = Math.max(this.#counters.sent, sent)
    this.#counters.resent = Math.max(this.#counters.resent, resent)
  }

  #landed(bytes: number, isData: boolean, offset: number, isHole: boolean): void {
    if (isData) this.#counters.data += bytes
    else this.#counters.skippedZero += bytes
    if (!isHole) {
      this.meter.add(bytes) // A hole takes no time: it says nothing of how long the rest takes.
      this.#survey.landed(offset, bytes)
    }
    this.missingBytes = (this.disk.arrival?.missingBlocks ?? 0) * blockSizeBytes
  }

  protected async call(method: string, params: object, signal: AbortSignal): Promise<unknown> {
    try {
      return await this.channel.call(method, { migration: this.id, ...params }, { signal })
    } catch (error) {
      this.#heed(error)
      throw error
    }
  }

  /** Everything that works here ends when the source says that the disk is superseded. */
  #heed(error: unknown): void {
    const by = supersessionIn(error, this.disk.record.generation)
    if (by) this.leave(by)
  }

  protected leave(by: Supersession): void {
    this.supersededBy ??= by
    this.#leaving.abort(new Error('the disk is superseded'))
  }

  /** Whoever waits for the source's word waits no more. */
  protected settleConfirmation(): void {
    this.#notices.settle()
  }
}
