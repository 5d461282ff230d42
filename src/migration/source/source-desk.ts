// What the source answers its destination: how it stands, the grant (grant.ts), reads (source-reads.ts); and what it takes
// note of: that the destination serves, how far it is, who waits there, and that it has every block.
//
// What always holds: what the destination took, and that it has every block, is durable here before it is answered.

import type { Extent, Piece, Run, Urgency } from '../../block/units.ts'
import { Refusal } from '../../disk/refusal.ts'
import { PeerRefusal } from '../../link/channel.ts'
import type { MigrationCounters, MigrationRecord, MovedDisk } from '../../store/records.ts'
import { startingCode } from '../codes.ts'
import type {
  AcquireAnswer,
  Acquisition,
  CompleteDisk,
  Completion,
  DiskAt,
  DiskProgress,
  Progress,
  Release,
  SentOf,
  SourceDesk,
  SourceStanding,
  Taken,
} from '../counterpart.ts'
import { type Course, type CourseEvent, type CourseServices, type Pace, type Plans, still } from '../course.ts'
import { entryOf } from '../entry.ts'
import { GuestsLog } from '../guest-notices.ts'
import { nobodyWaits, type WaitingGuests } from '../held-writes.ts'
import type { MoveChanges } from '../move.ts'
import { restoredRefusal } from '../supersession.ts'
import type { Grant } from './grant.ts'
import type { SourceReads } from './source-reads.ts'

/** The destination tells how fast it is every half second. */
const paceIsOldMs = 3000

export interface SourceDeskParts {
  readonly course: Course
  readonly services: Pick<CourseServices, 'clock' | 'log'>
  readonly grant: Grant
  readonly reads: SourceReads
  /** Runs what may change state one after the other. */
  alone<T>(work: () => Promise<T>): Promise<T>
  /** Whether a commit that takes the disk back was tried. */
  isReclaiming(): boolean
  /** Whether the disk is in this migration, and no other. */
  isCurrent(): boolean
  update(changes: MoveChanges, plans: Plans): Promise<void>
  ending(state: 'done', ownerOf: string, facts: (disk: MovedDisk) => Partial<MovedDisk>): MoveChanges
  note(sentence: string | null): void
  tell(event: CourseEvent): void
  /** @throws Refusal once a grant was made */
  cancel(): Promise<void>
  pausedThere(isPaused: boolean): Promise<void>
}

export class SourceAnswers implements SourceDesk {
  readonly #parts: SourceDeskParts
  /** What the destination last told. */
  #reported: MigrationCounters | undefined
  #pace: { readonly told: Pace; readonly atMs: number } | undefined
  #copyingMs: number
  #guests: WaitingGuests
  readonly #guestsLog: GuestsLog

  constructor(parts: SourceDeskParts) {
    this.#parts = parts
    const { id, copyingMs, refusedWrites } = parts.course.record
    this.#copyingMs = copyingMs
    this.#guests = { ...nobodyWaits, refused: refusedWrites }
    this.#guestsLog = new GuestsLog(parts.services.log, { migration: id, disk: parts.course.moved.name })
  }

  /** What the destination last told of what landed, and what has left here. */
  get counters(): MigrationCounters {
    const { ended } = this.#parts.course
    const counters = this.#reported ?? this.#parts.course.moved(this.#parts.course.disk).counters
    return ended ? counters : { ...counters, ...this.#parts.reads.sent }
  }

  /** Nothing is known of it before the first report, and soon after the last. */
  get pace(): Pace {
    if (!this.#pace || this.#parts.services.clock.now() - this.#pace.atMs > paceIsOldMs) return still
    return this.#pace.told
  }

  get copyingMs(): number {
    return this.#copyingMs
  }

  get waitingGuests(): WaitingGuests {
    return this.#guests
  }

  /** Not while a grant is being made: then nobody knows yet. */
  inquire(): Promise<SourceStanding> {
    return this.#parts.alone(async () => this.#parts.grant.standing())
  }

  acquire(asked: Acquisition): Promise<AcquireAnswer> {
    return this.#parts.alone(() => this.#parts.grant.acquire(asked))
  }

  flush(disk: DiskAt): Promise<{ readonly boot: string }> {
    return this.#parts.reads.flush(disk)
  }

  extents(disk: DiskAt, run: Run): Promise<readonly Extent[]> {
    return this.#parts.reads.extents(disk, run)
  }

  digests(disk: DiskAt, runs: readonly Run[]): Promise<readonly string[]> {
    return this.#parts.reads.digests(disk, runs)
  }

  blocks(
    disk: DiskAt,
    runs: readonly Run[],
    options: { urgency: Urgency; signal: AbortSignal },
  ): AsyncGenerator<Piece> {
    return this.#parts.reads.blocks(disk, runs, options)
  }

  taken(said: Taken): Promise<void> {
    return this.#parts.alone(() => this.#taken(said))
  }

  async progress(said: Progress): Promise<readonly SentOf[]> {
    const { course, services, note, tell, pausedThere } = this.#parts
    const { missing, unreadable, ...counters } = this.#entry<DiskProgress>(said.disks)
    if (this.#record.state !== 'copying') return this.#sent
    void pausedThere(said.paused).catch(() => {}) // The next report says it again.
    const { rate, secondsLeft } = said
    this.#pace = { told: { rate, secondsLeft }, atMs: services.clock.now() }
    this.#copyingMs = said.copyingMs
    this.#hear(counters)
    Object.assign(course.figures(course.disk), { missingBytes: missing, unreadable })
    note(said.note)
    tell({ kind: 'progress' })
    return this.#sent
  }

  /** They are the destination's guests: here it is only told of them. */
  async guests(said: WaitingGuests): Promise<void> {
    this.#guests = said
    this.#guestsLog.write(said)
    this.#parts.tell({ kind: 'progress' })
  }

  paused(isPaused: boolean): Promise<void> {
    return this.#parts.pausedThere(isPaused)
  }

  complete(said: Completion): Promise<Release> {
    return this.#parts.alone(() => this.#complete(said))
  }

  async cancel(): Promise<{ readonly cancelled: boolean; readonly message: string }> {
    try {
      await this.#parts.cancel()
      return { cancelled: true, message: '' }
    } catch (error) {
      if (error instanceof Refusal) return { cancelled: false, message: error.toPeer }
      throw error
    }
  }

  /** As of its last commit. */
  get #record(): MigrationRecord {
    return this.#parts.course.record
  }

  #entry<Entry extends { readonly disk: string }>(entries: readonly Entry[]): Entry {
    return entryOf(entries, this.#parts.course.moved(this.#parts.course.disk).id)
  }

  /** Durable before it is answered: a destination that is restored to an earlier mark is known by it. */
  async #taken({ disks, mark, run }: Taken): Promise<void> {
    const { course, update } = this.#parts
    const { disk, record } = course
    const { generation } = this.#entry(disks)
    // It was said while `complete` was dealt with: a run that has everything does not say it any more.
    if (record.state === 'done') throw restoredRefusal(record)
    this.#checkGeneration(generation)
    if (disk.state !== 'departed') return
    if (mark <= record.mark) {
      if (run !== record.markRun) throw restoredRefusal(record)
      return // Said again, or late.
    }
    await update({ mark, markRun: run }, [disk.departing.noteTaken()])
  }

  async #complete({ disks, copyingMs }: Completion): Promise<Release> {
    const { course, services, update, ending, tell } = this.#parts
    const { disk } = course
    const said = this.#entry<CompleteDisk>(disks)
    if (this.#record.state === 'done') return { answer: 'released', disks: this.#sent } // Said again: the answer was lost.
    this.#checkGeneration(said.generation)
    if (disk.state === 'departed') {
      const { verified, differed } = said
      this.#hear(said)
      this.#copyingMs = copyingMs
      const ended = ending('done', this.#record.peerSite, () => ({ counters: this.counters, verified, differed }))
      await update(ended, [disk.departing.release()])
      course.figures(disk).missingBytes = 0
      disk.onSessions = () => {}
    }
    tell({ kind: 'ended' })
    if (course.terms.sourcePolicy === 'delete') {
      await disk.departing.discardBytes().catch((error: unknown) => {
        const message = 'the bytes of a released disk stay: delete the disk'
        services.log('error', { disk: disk.name, error: String(error) }, message)
      })
    }
    return { answer: 'released', disks: this.#sent }
  }

  /** What landed is the destination's to say, what was sent is ours. */
  #hear({ data, sent, skippedZero, resent }: MigrationCounters): void {
    this.#reported = { data, skippedZero, ...this.#parts.reads.atLeast({ sent, resent }) }
  }

  get #sent(): readonly SentOf[] {
    const { sent, resent } = this.counters
    return [{ disk: this.#parts.course.moved(this.#parts.course.disk).id, sent, resent }]
  }

  #checkGeneration(generation: number): void {
    const { course, isReclaiming, isCurrent } = this.#parts
    if (isReclaiming()) throw new PeerRefusal(startingCode, `${course.disk.name} is being taken back`)
    if (isCurrent() && generation === course.moved(course.disk).generation && course.disk.state !== 'owned') return
    throw new PeerRefusal(
      'stale',
      `migration ${course.id} leads to generation ${course.moved(course.disk).generation}, not ${generation}`,
    )
  }
}
