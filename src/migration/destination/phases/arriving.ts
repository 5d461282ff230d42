// The second phase of a destination's course, in which it owns: fetches what is missing, and has it compared with the source
// (copy/comparisons.ts).
//
// What always holds: `owned` is committed, with every byte durable and compared, before the source may be told that it is
// released (promise 8). Nothing of it is done for an old copy of this site: the source has heard it first.

import { blockSizeBytes } from '../../../block/block-map.ts'
import type { Run } from '../../../block/units.ts'
import type { BlockSource } from '../../../disk/block-source.ts'
import type { Landed } from '../../../disk/remote-part.ts'
import { BackgroundCopy } from '../../copy/background-copy.ts'
import { type Comparison, Comparisons } from '../../copy/comparisons.ts'
import { CopyTime } from '../../copy/copy-time.ts'
import { DataSurvey } from '../../copy/data-survey.ts'
import { Pause } from '../../copy/pause.ts'
import { RateLimit } from '../../copy/rate-limit.ts'
import { RateMeter } from '../../copy/rate-meter.ts'
import type { Pace } from '../../course.ts'
import { nothingToPause, pauseSentence } from '../../refusals.ts'
import { merged, namedRanges } from '../../unreadable.ts'
import { DestinationNotices } from '../destination-notices.ts'
import { type DestinationHost, frozenDisk, recorded, remoteParts } from '../host.ts'
import { RemoteBlocks } from '../remote-blocks.ts'
import type { Tally } from '../tally.ts'

export class Arriving {
  readonly #host: DestinationHost
  readonly #tally: Tally
  /** Bytes that came (data, and zeros that stood there as data), over time. */
  readonly #meter: RateMeter
  readonly #limit: RateLimit
  readonly #pause: Pause
  readonly #comparisons: Comparisons
  readonly #notices: DestinationNotices
  readonly #copyTime: CopyTime
  readonly #survey: DataSurvey
  /** What guests' demand fetches ask for. */
  readonly frozen: BlockSource

  constructor(host: DestinationHost, tally: Tally) {
    this.#host = host
    this.#tally = tally
    const { course, services, source, working, stopping, update, note, tell } = host
    const { record, disk } = course
    const { clock, log } = services
    this.#meter = new RateMeter(clock)
    this.#limit = new RateLimit(clock, course.terms.maxRate)
    this.#pause = new Pause(record.paused)
    this.#copyTime = new CopyTime(clock, record.copyingMs)
    this.#copyTime.set('pause', record.paused)
    this.#survey = new DataSurvey({
      sizeBytes: disk.sizeBytes,
      clock,
      missingBlocksIn: (span) => disk.arriving.missingBlocksIn(span),
      extents: (offset, length, signal) => source.extents(frozenDisk(host), { offset, length }, signal),
    })
    this.#notices = new DestinationNotices({
      course,
      clock,
      stopping,
      source,
      update,
      mark: (mark) => update({ mark }, [disk.arriving.noteMapLog()]),
      note,
      reported: (sent) => tally.heard(sent, course.moved(course.disk).id),
      progressed: () => tell({ kind: 'progress' }),
    })
    this.#comparisons = new Comparisons({
      migration: course.id,
      disk,
      clock,
      log,
      pause: this.#pause,
      working,
      extents: (offset, length, signal) => source.extents(frozenDisk(host), { offset, length }, signal),
      digests: (runs, signal) => source.digests(frozenDisk(host), runs, signal),
      recordDiffering: (differing) => this.#recordDiffering(differing),
      note,
    })
    this.frozen = this.#demanded()
    if (disk.state === 'arriving' && !disk.isUnusable)
      course.figures(disk).missingBytes = disk.arriving.missingBlocks * blockSizeBytes
    if (disk.state === 'owned') course.figures(disk).missingBytes = 0
  }

  get copyingMs(): number {
    return this.#copyTime.ms
  }

  get pace(): Pace {
    const rate = this.#meter.rate()
    const left = this.#survey.missingBytes
    return { rate, secondsLeft: rate > 0 && left !== undefined ? left / rate : null }
  }

  linkChanged(isUp: boolean): void {
    this.#copyTime.set('link', !isUp)
  }

  /** Holds the background copy, or lets it go on; durable before it is answered. Also before it begins. @throws Refusal */
  async setPaused(paused: boolean): Promise<void> {
    const { course, update, tell } = this.#host
    if (course.ended || course.record.state === 'finishing') throw nothingToPause(course.record, paused)
    if (paused === course.record.paused) return
    await update({ paused })
    this.#pause.set(paused)
    this.#copyTime.set('pause', paused)
    tell({ kind: 'step', message: pauseSentence(paused) })
    this.#notices.paused()
  }

  /** `disk verify`: compares what is here, and was not written here, with the source. @throws Refusal, LinkError, PeerRefusal */
  verify(signal: AbortSignal): Promise<Comparison> {
    return this.#comparisons.ask(signal)
  }

  /** Resolves once the source has confirmed that this is no old copy of the disk, or the disk is not arriving any more. */
  get confirmed(): Promise<void> {
    return this.#host.course.disk.state === 'arriving' ? this.#notices.confirmed : Promise.resolve()
  }

  /** Whoever waits for the source's word waits no more. */
  settle(): void {
    this.#notices.settle()
  }

  /** Resolves when every block is here, compared, and owned on record. Rejects when `working` ends. */
  async run(): Promise<void> {
    const { working, tell } = this.#host
    const ended = new AbortController()
    const signal = AbortSignal.any([ended.signal, working])
    const reports = this.#notices.report(signal)
    try {
      void this.#notices.sayTaken(signal).catch(() => {}) // Given up when the copy ends.
      void this.#survey.run(signal).catch(() => {}) // So is this.
      const copy = this.#copy()
      do {
        this.#copyTime.set('idle', false)
        await copy.run()
        this.#copyTime.set('idle', true)
        tell({ kind: 'step', message: 'every block has come, and is being compared with the source' })
      } while (!(await this.#comparisons.isLast()))
      await this.#notices.heard(working) // An old copy of this site must not have the source released.
      await this.#own()
    } finally {
      this.#copyTime.set('idle', true)
      ended.abort()
      await reports
    }
  }

  #copy(): BackgroundCopy {
    const { course, services, source, working, note } = this.#host
    const parts = {
      disk: course.disk,
      clock: services.clock,
      source: new RemoteBlocks(remoteParts(this.#host, frozenDisk(this.#host))),
      extents: (offset: number, length: number, signal: AbortSignal) =>
        source.extents(frozenDisk(this.#host), { offset, length }, signal),
      limit: this.#limit,
      pause: this.#pause,
      freeBytes: () => services.freeBytes(),
      trouble: (sentence: string | null, unreadable: readonly Run[]) => {
        course.figures(course.disk).unreadable = unreadable
        this.#copyTime.set('trouble', sentence !== null)
        note(sentence)
      },
    }
    return new BackgroundCopy(parts, working)
  }

  async #own(): Promise<void> {
    const { course, working, update, tell } = this.#host
    const { disk } = course
    course.figures(disk).missingBytes = 0
    const verified = disk.arriving.isComparable
    const own = () =>
      update({ state: 'finishing', disks: { [disk.id]: { counters: this.#tally.now, verified } } }, async () => [
        await disk.arriving.finish(),
      ])
    await recorded(this.#host, 'that every block has come', own, working)
    tell({ kind: 'step', message: 'every block has come; the source is being released' })
  }

  /** They are named at the end, at both sites. That they are missing is durable first: a power loss must not bring them back. */
  async #recordDiffering(differing: readonly Run[]): Promise<void> {
    const { course, working, update } = this.#host
    if (differing.length === 0) return
    await recorded(this.#host, 'that it differed from the source', () => course.disk.flush(), working)
    const differed = merged([...course.moved(course.disk).differed, ...differing]).slice(0, namedRanges)
    await update({ disks: { [course.disk.id]: { differed } } }).catch(() => {}) // The log has them, and what they said is missing again already.
  }

  /** A guest's demand fetch ends when the disk is superseded. */
  #demanded(): BlockSource {
    const { leaving } = this.#host
    const blocks = new RemoteBlocks(remoteParts(this.#host, frozenDisk(this.#host)))
    return {
      fetch: (runs, { urgency, signal }) => blocks.fetch(runs, { urgency, signal: AbortSignal.any([signal, leaving]) }),
    }
  }

  /** The disk tells of each landing, whoever had it fetched. */
  landed({ piece, bytes, kind }: Landed): void {
    this.#tally.landed(bytes, kind === 'data')
    if (kind !== 'hole') {
      this.#meter.add(bytes) // A hole takes no time: it says nothing of how long the rest takes.
      this.#survey.landed(piece.offset, bytes)
    }
    const { course } = this.#host
    course.figures(course.disk).missingBytes = course.disk.arriving.missingBlocks * blockSizeBytes
  }
}
