// What the destination tells its source unasked: that it serves the disks, how far the copy is, and whether it is paused.
//
// What always holds: each `taken` carries a higher mark, which is on record here before it is said, so that the source knows
// an older copy of this site by it. Nothing else here has to be heard: it is said again.

import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import type { Clock } from '../../block/clock.ts'
import { PeerRefusal } from '../../link/channel.ts'
import { movedOnCodes, startingCode } from '../codes.ts'
import type { DiskProgress, Progress, SentOf, SourceDesk } from '../counterpart.ts'
import type { Course } from '../course.ts'
import type { MoveChanges } from '../move.ts'
import { retryDelayMs } from '../retries.ts'
import type { Mark, SignedWord } from '../signed-words.ts'
import { unlessAborted } from '../unless-aborted.ts'
import { namedRanges } from '../unreadable.ts'
import { withinTime } from '../within-time.ts'
import type { ComingDisk } from './coming-disk.ts'

const reportEveryMs = 500
/** While the disks are only kept in step, for days perhaps. */
const quietReportEveryMs = 2000
/** What an old copy lacks is seen when it is older than this. */
const markEveryMs = 5000
/** The counters are put on record once in so many reports. */
const roundsPerRecord = 2
const informTimeoutMs = 5000

export interface DestinationNoticesParts {
  readonly course: Course
  readonly coming: readonly ComingDisk[]
  readonly clock: Clock
  /** Ends when this site stops. */
  readonly stopping: AbortSignal
  readonly source: Pick<SourceDesk, 'taken' | 'paused' | 'progress'>
  /** With this site's key. */
  sign(said: Mark): SignedWord
  update(changes: MoveChanges): Promise<void>
  /** Puts the mark on record, with how far the maps are durable. */
  mark(mark: number): Promise<void>
  note(sentence: string | null): void
  /** Nothing is copied but what was written since the last time. */
  isQuiet(): boolean
  /** The source has answered a report. */
  reported(sent: readonly SentOf[]): void
  /** Another report is due: listeners here are told too. */
  progressed(): void
}

export class DestinationNotices {
  readonly #parts: DestinationNoticesParts
  /** This daemon's run, as far as the source is concerned. */
  readonly run = randomUUID()
  /** The mark on record is of this run. */
  isMarked = false
  readonly #confirmed = Promise.withResolvers<void>()
  #isSettled = false
  /** Why the source has not heard it yet, as far as was tried. */
  #unheardReason: string | undefined
  /** Nothing but that is waited for. */
  #isAwaited = false
  #isTellingPaused = false
  /** The figures that are on record. */
  #recorded: object | undefined

  constructor(parts: DestinationNoticesParts) {
    this.#parts = parts
  }

  /** Resolves once the source has heard that this site serves, so that it is no old copy; or whoever waits waits no more. */
  get confirmed(): Promise<void> {
    return this.#confirmed.promise
  }

  /** As `confirmed`, for as long as `signal` lets it. */
  async heard(signal: AbortSignal): Promise<void> {
    this.#isAwaited = true
    this.#noteUnheard()
    try {
      await unlessAborted(this.confirmed, signal)
      this.#parts.note(null)
    } finally {
      this.#isAwaited = false
    }
  }

  /** Whoever waits for the source's word waits no more. */
  settle(): void {
    this.#isSettled = true
    this.#unheardReason = undefined
    this.#confirmed.resolve()
  }

  /** The background copy is held, or goes on: the operator at the source sees it too, as soon as it can be reached. */
  paused(): void {
    if (!this.#isTellingPaused) void this.#sayPaused()
  }

  async #sayPaused(): Promise<void> {
    const { course, clock, stopping } = this.#parts
    this.#isTellingPaused = true
    try {
      for (let attempt = 1, told: boolean | undefined; told !== course.record.paused && !course.ended; attempt++) {
        const { paused } = course.record
        const isHeard = await this.#parts.source.paused(paused, stopping).then(
          () => true,
          (error: unknown) => error instanceof PeerRefusal && error.code !== startingCode,
        )
        if (isHeard) told = paused
        else await clock.sleep(retryDelayMs(attempt), stopping)
      }
    } catch {
      // This site is stopping.
    } finally {
      this.#isTellingPaused = false
    }
  }

  /**
   * Says it again and again until the copy ends. Until it is heard the source would answer a repeated acquire.
   * `complete` says it too.
   */
  async sayTaken(signal: AbortSignal): Promise<void> {
    const { course, clock } = this.#parts
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#parts.mark(course.record.mark + 1)
        this.isMarked = true
        const disks = this.#inMove.map(({ frozen }) => frozen)
        const { mark } = course.record
        const said = { mark, run: this.run }
        await this.#parts.source.taken({ disks, ...said, ...this.#parts.sign(said) }, signal)
        this.settle()
        attempt = 0
        await clock.sleep(markEveryMs, signal)
      } catch (error) {
        signal.throwIfAborted()
        if (error instanceof PeerRefusal && movedOnCodes.includes(error.code)) return this.settle()
        if (!this.#isSettled) this.#unheardReason = (error as Error).message
        this.#noteUnheard()
        await clock.sleep(retryDelayMs(attempt), signal)
      }
    }
  }

  #noteUnheard(): void {
    if (!this.#isAwaited || this.#unheardReason === undefined) return
    this.#parts.note(`every block has come; the source is not told yet that this site serves: ${this.#unheardReason}`)
  }

  /** Tells listeners here, and the source, how far it is. */
  async report(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts
    for (let round = 1; !signal.aborted; round++) {
      if (round % roundsPerRecord === 0) await this.#recordFigures().catch(() => {}) // Figures only.
      for (const each of this.#inMove) each.figures.picture = pictureOf(each)
      this.#parts.progressed()
      await withinTime(clock, informTimeoutMs, signal, (limited) =>
        this.#parts.source.progress(this.#progress, limited),
      )
        .then((sent) => this.#parts.reported(sent))
        .catch(() => {}) // Not answered, or not as it should be: it is said again.
      await clock.sleep(this.#parts.isQuiet() ? quietReportEveryMs : reportEveryMs, signal).catch(() => {})
    }
  }

  /** What is kept in step for days is not recorded all the time. */
  async #recordFigures(): Promise<void> {
    const { course, update } = this.#parts
    const disks = Object.fromEntries(this.#inMove.map(({ id, tally }) => [id, { counters: tally.now }]))
    const changes = { copyingMs: course.copyingMs, disks }
    if (isDeepStrictEqual(changes, this.#recorded)) return
    await update(changes)
    this.#recorded = changes
  }

  get #progress(): Progress {
    const { note, record, pace, copyingMs, ahead } = this.#parts.course
    const disks = this.#inMove.map(({ id, tally, figures }): DiskProgress => {
      const { picture } = figures
      const unreadable = figures.unreadable.slice(0, namedRanges)
      return { disk: id, ...tally.now, missing: figures.missingBytes, unreadable, picture }
    })
    return { disks, paused: record.paused, note, ...pace, copyingMs, ahead }
  }

  get #inMove(): readonly ComingDisk[] {
    return this.#parts.coming.filter((each) => each.isInMove)
  }
}

/** null: its file cannot be looked at. A report is made all the same: it is for people. */
function pictureOf({ disk }: ComingDisk): string | null {
  try {
    return disk.arriving.picture
  } catch {
    return null
  }
}
