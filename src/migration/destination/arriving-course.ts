// What the destination does once it owns: fetches what is missing, has it compared with the source (comparisons.ts), and has
// the source released. The part of its course that comes before is in destination-course.ts.
//
// What always holds: `owned` is committed, with every byte durable and compared, before the source is told that it may be
// released (promise 8).

import { blockSizeBytes } from '../../block/block-map.ts'
import type { Run } from '../../block/units.ts'
import type { BlockSource } from '../../disk/block-source.ts'
import type { Disk } from '../../disk/disk.ts'
import type { Landed } from '../../disk/remote-part.ts'
import { PeerRefusal } from '../../link/channel.ts'
import type { MigrationCounters, MigrationRecord } from '../../store/records.ts'
import { movedOnCodes } from '../codes.ts'
import { BackgroundCopy } from '../copy/background-copy.ts'
import { type Comparison, Comparisons } from '../copy/comparisons.ts'
import { CopyTime } from '../copy/copy-time.ts'
import { DataSurvey } from '../copy/data-survey.ts'
import { Pause } from '../copy/pause.ts'
import { RateLimit } from '../copy/rate-limit.ts'
import type { Completion, Counterpart, DiskAt, Release, SentOf, SourceDesk } from '../counterpart.ts'
import { Course, type CourseServices, type Pace } from '../course.ts'
import { nothingToPause, pauseSentence } from '../refusals.ts'
import { retryDelayMs } from '../retries.ts'
import { type Supersession, supersessionIn } from '../supersession.ts'
import { merged, namedRanges } from '../unreadable.ts'
import { DestinationNotices } from './destination-notices.ts'
import { heeding } from './heeding.ts'
import { RemoteBlocks, type RemoteBlocksParts } from './remote-blocks.ts'

const commitRetryMs = 1000

export abstract class ArrivingCourse extends Course {
  readonly #limit: RateLimit
  readonly #pause: Pause
  readonly #comparisons: Comparisons
  readonly #notices: DestinationNotices
  readonly #copyTime: CopyTime
  readonly #survey: DataSurvey
  readonly #counters: { data: number; sent: number; skippedZero: number; resent: number }

  /** The source of this migration. */
  protected readonly source: SourceDesk
  /** The source's word that a later generation exists. */
  protected supersededBy: Supersession | undefined
  readonly #leaving = new AbortController()
  /** Ends when this site stops, and when the disk is superseded. */
  protected readonly working: AbortSignal

  constructor(services: CourseServices, disk: Disk, record: MigrationRecord, counterpart: Counterpart) {
    super(services, disk, record, counterpart)
    this.source = heeding(counterpart.source(record.id), (error) => this.heed(error))
    this.working = AbortSignal.any([this.stopping.signal, this.#leaving.signal])
    this.#counters = { ...this.moved.counters }
    this.#limit = new RateLimit(services.clock, this.terms.maxRate)
    this.#pause = new Pause(record.paused)
    this.#copyTime = new CopyTime(services.clock, record.copyingMs)
    this.#copyTime.set('pause', record.paused)
    this.#survey = new DataSurvey({
      sizeBytes: disk.sizeBytes,
      clock: services.clock,
      missingBlocksIn: (span) => disk.arriving.missingBlocksIn(span),
      extents: (offset, length, signal) => this.source.extents(this.frozenDisk, { offset, length }, signal),
    })
    this.#notices = new DestinationNotices({
      course: this,
      clock: services.clock,
      stopping: this.stopping.signal,
      source: this.source,
      update: (changes) => this.update(changes),
      mark: (mark) => this.update({ mark }, (change) => this.disk.arriving.noteMapLog([change])),
      note: (sentence) => this.setNote(sentence),
      reported: (sent) => this.#hearSent(sent),
      progressed: () => this.tell({ kind: 'progress' }),
    })
    this.#comparisons = new Comparisons({
      migration: record.id,
      disk,
      clock: services.clock,
      log: services.log,
      pause: this.#pause,
      working: this.working,
      extents: (offset, length, signal) => this.source.extents(this.frozenDisk, { offset, length }, signal),
      digests: (runs, signal) => this.source.digests(this.frozenDisk, runs, signal),
      recordDiffering: (differing) => this.#recordDiffering(differing),
      note: (sentence) => this.setNote(sentence),
    })
    if (disk.state === 'arriving') this.missingBytes = disk.arriving.missingBlocks * blockSizeBytes
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
          source: new RemoteBlocks(this.remoteParts(this.frozenDisk)),
          extents: (offset, length, asked) => this.source.extents(this.frozenDisk, { offset, length }, asked),
          limit: this.#limit,
          pause: this.#pause,
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
    const differed = merged([...this.moved.differed, ...differing]).slice(0, namedRanges)
    await this.update({ disk: { differed } }).catch(() => {}) // The log has them, and what they said is missing again already.
  }

  /** Resolves once the source has confirmed that this is no old copy of the disk, or the disk is not arriving any more. */
  get confirmed(): Promise<void> {
    return this.disk.state === 'arriving' ? this.#notices.confirmed : Promise.resolve()
  }

  async #own(): Promise<void> {
    this.missingBytes = 0
    const verified = this.disk.arriving.isComparable
    await this.recorded(
      'that every block has come',
      () =>
        this.update({ state: 'finishing', disk: { counters: this.counters, verified } }, (change) =>
          this.disk.arriving.finish([change]),
        ),
      this.working,
    )
    this.tell({ kind: 'step', message: 'every block has come; the source is being released' })
  }

  protected async finish(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        this.#ended(await this.source.complete(this.#completion, this.working))
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
        this.update(this.ending('done', this.services.siteId, { counters: this.counters }), (change) =>
          this.disk.leaveMigration([change]),
        ),
      this.working,
    )
    this.tell({ kind: 'ended' })
  }

  /** It is told, or is gone for good: then its word is proven by something else. */
  #ended(release: Release): void {
    if (release.answer === 'released') this.#hearSent(release.disks)
    else {
      const message = `every block has come; the source is gone, and that it gave the disk up is proven by ${release.proof.foundIn}`
      this.services.log('info', { migration: this.id, disk: this.disk.name }, message)
      this.tell({ kind: 'step', message })
    }
  }

  /** Everything is here, and the operator does not wait for the source any longer: it is told when it comes back. */
  protected async endUntold(): Promise<void> {
    const note = 'ended without the source, which is told when it comes back'
    const over = this.ending('done', this.services.siteId, { counters: this.counters })
    const ended = { ...over, sourceTold: false, note }
    await this.update(ended, (change) => this.disk.leaveMigration([change]))
    this.#leaving.abort(new Error('the migration was ended by force'))
    this.tell({ kind: 'ended' })
  }

  get #completion(): Completion {
    const { verified, differed } = this.moved
    return { disks: [{ ...this.frozenDisk, ...this.counters, verified, differed }], copyingMs: this.copyingMs }
  }

  /** The disk under the generation that was granted, frozen at its source. */
  protected get frozenDisk(): DiskAt {
    return { disk: this.moved.id, generation: this.moved.generation }
  }

  /** The source's blocks of a disk. */
  protected remoteParts(disk: DiskAt): RemoteBlocksParts {
    return {
      source: this.source,
      clock: this.services.clock,
      disk,
      stallTimeoutMs: this.terms.stallTimeoutMs,
      refused: (error) => {
        this.heed(error)
        throw error
      },
    }
  }

  /** What guests' demand fetches ask for. */
  protected get frozen(): BlockSource {
    const blocks = new RemoteBlocks(this.remoteParts(this.frozenDisk))
    return {
      fetch: (runs, { urgency, signal }) =>
        blocks.fetch(runs, { urgency, signal: AbortSignal.any([signal, this.#leaving.signal]) }),
    }
  }

  /** The source counts what it sends; here it is kept, should the source start anew. */
  #hearSent(disks: readonly SentOf[]): void {
    const { sent, resent } = disks.find(({ disk }) => disk === this.moved.id) ?? { sent: 0, resent: 0 }
    this.#counters.sent = Math.max(this.#counters.sent, sent)
    this.#counters.resent = Math.max(this.#counters.resent, resent)
  }

  /** The disk tells of each landing, whoever had it fetched. */
  protected landed({ piece, bytes, kind }: Landed): void {
    if (kind === 'data') this.#counters.data += bytes
    else this.#counters.skippedZero += bytes
    if (kind !== 'hole') {
      this.meter.add(bytes) // A hole takes no time: it says nothing of how long the rest takes.
      this.#survey.landed(piece.offset, bytes)
    }
    this.missingBytes = this.disk.arriving.missingBlocks * blockSizeBytes
  }

  /** Everything that works here ends when the source says that the disk is superseded. */
  protected heed(error: unknown): void {
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
