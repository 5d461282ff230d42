// What the source answers its destination: how it stands, the grant (grant.ts), reads (source-reads.ts); and what it takes
// note of: that the destination serves, how far it is, who waits there, and that it has every block.
//
// What always holds: what the destination took, and that it has every block, is durable here before it is answered.

import type { Extent, Piece, Run, Urgency } from '../../block/units.ts'
import { signReleased } from '../../deed/signing.ts'
import type { Disk } from '../../disk/disk.ts'
import { Refusal } from '../../disk/refusal.ts'
import { PeerRefusal } from '../../link/channel.ts'
import type { MigrationCounters, MigrationRecord, MovedDisk } from '../../store/records.ts'
import type { Ahead } from '../ahead.ts'
import { startingCode } from '../codes.ts'
import type {
  AcquireAnswer,
  Acquisition,
  Collected,
  Collection,
  CompleteDisk,
  Completion,
  Copied,
  DiskAt,
  DiskProgress,
  Progress,
  Release,
  SentOf,
  SourceDesk,
  SourceStanding,
  Taken,
  Tracked,
} from '../counterpart.ts'
import { type Course, type CourseEvent, type CourseServices, type Pace, type Plans, still } from '../course.ts'
import { releasesOf } from '../deeds.ts'
import { otherDisks } from '../entry.ts'
import { GuestsLog } from '../guest-notices.ts'
import { nobodyWaits, type WaitingGuests } from '../held-writes.ts'
import { diskNames, type MoveChanges } from '../move.ts'
import { checkComplete, checkMark } from '../signed-words.ts'
import { restoredRefusal } from '../supersession.ts'
import type { Grant } from './grant.ts'
import type { SourceReads } from './source-reads.ts'

/** The destination tells how fast it is every half second. */
const paceIsOldMs = 3000

export interface SourceDeskParts {
  readonly course: Course
  readonly services: Pick<CourseServices, 'clock' | 'log' | 'key'>
  readonly grant: Grant
  readonly reads: SourceReads
  /** Runs what may change state one after the other. */
  alone<T>(work: () => Promise<T>): Promise<T>
  /** Whether a commit that takes the disks back was tried. */
  isReclaiming(): boolean
  /** Whether the disks are in this migration, and no other. */
  isCurrent(): boolean
  update(changes: MoveChanges, plans: Plans): Promise<void>
  ending(state: 'done', ownerOf: string, facts: (disk: MovedDisk) => Partial<MovedDisk>): MoveChanges
  note(sentence: string | null): void
  tell(event: CourseEvent): void
  /** @throws Refusal once a grant was made */
  cancel(): Promise<void>
  pausedThere(isPaused: boolean): Promise<void>
  /** What is copied ahead has come so far. */
  readyThere(): Promise<void>
}

/** What a message says of a disk. */
interface OfDisk<Entry> {
  readonly disk: Disk
  readonly entry: Entry
}

export class SourceAnswers implements SourceDesk {
  readonly #parts: SourceDeskParts
  /** What the destination last told of each disk. */
  readonly #reported = new Map<string, MigrationCounters>()
  #pace: { readonly told: Pace; readonly atMs: number } | undefined
  #ahead: Ahead | null = null
  #copyingMs: number
  #guests: WaitingGuests
  readonly #guestsLog: GuestsLog

  constructor(parts: SourceDeskParts) {
    this.#parts = parts
    const { id, copyingMs, refusedWrites } = parts.course.record
    this.#copyingMs = copyingMs
    this.#guests = { ...nobodyWaits, refused: refusedWrites }
    this.#guestsLog = new GuestsLog(parts.services.log, { migration: id, disk: diskNames(parts.course.record) })
  }

  /** What the destination last told of what landed of a disk, and what has left here. */
  countersOf(disk: { readonly id: string }): MigrationCounters {
    const { course, reads } = this.#parts
    const counters = this.#reported.get(disk.id) ?? course.moved(disk).counters
    return course.ended ? counters : { ...counters, ...reads.sentOf(disk) }
  }

  /** Nothing is known of it before the first report, and soon after the last. */
  get pace(): Pace {
    if (!this.#pace || this.#parts.services.clock.now() - this.#pace.atMs > paceIsOldMs) return still
    return this.#pace.told
  }

  /** As the destination last told it; null: it has not yet. */
  get ahead(): Ahead | null {
    return this.#ahead
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

  track(disk: DiskAt, copied: Copied | null): Promise<Tracked> {
    return this.#parts.reads.track(disk, copied)
  }

  collect(asked: Collection): Promise<Collected> {
    return this.#parts.reads.collect(asked)
  }

  flush(disk: DiskAt): Promise<{ readonly boot: string }> {
    return this.#parts.reads.flush(disk)
  }

  extents(disk: DiskAt, run: Run): Promise<readonly Extent[]> {
    return this.#parts.reads.extents(disk, run)
  }

  digests(disk: DiskAt, runs: readonly Run[], _: AbortSignal, stepBytes?: number): Promise<readonly string[]> {
    return this.#parts.reads.digests(disk, runs, stepBytes)
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
    const { course, services, note, tell, pausedThere, readyThere } = this.#parts
    const entries = this.#entries<DiskProgress>(said.disks)
    const { state } = this.#record
    if (state !== 'copying' && !(state === 'ready' && said.ahead)) return this.#sent
    this.#ahead = said.ahead
    if (said.ahead?.isReady) void readyThere().catch(() => {}) // The next report says it again.
    void pausedThere(said.paused).catch(() => {}) // The next report says it again.
    const { rate, secondsLeft } = said
    this.#pace = { told: { rate, secondsLeft }, atMs: services.clock.now() }
    this.#copyingMs = said.copyingMs
    for (const { disk, entry } of entries) {
      this.#hear(disk, entry)
      const { missing: missingBytes, unreadable, picture = null } = entry
      Object.assign(course.figures(disk), { missingBytes, unreadable, picture })
    }
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

  /** What is said of each disk that is in the move here. A disk that has left here may not have left there yet. */
  #entries<Entry extends { readonly disk: string }>(entries: readonly Entry[]): readonly OfDisk<Entry>[] {
    const { course } = this.#parts
    if (entries.some(({ disk }) => !course.record.disks.some(({ id }) => id === disk))) throw this.#others(entries)
    return course.inMove.flatMap((disk) => {
      const entry = entries.find((each) => each.disk === disk.id)
      return entry ? [{ disk, entry }] : []
    })
  }

  /** The same, of all disks that are in the move here. @throws PeerRefusal when one of them is not named */
  #allEntries<Entry extends { readonly disk: string }>(entries: readonly Entry[]): readonly OfDisk<Entry>[] {
    const found = this.#entries(entries)
    if (found.length < this.#parts.course.inMove.length) throw this.#others(entries)
    return found
  }

  #others(entries: readonly { readonly disk: string }[]): PeerRefusal {
    const meant = this.#parts.course.inMove.map(({ id }) => id)
    return otherDisks(meant, entries)
  }

  /** Durable before it is answered: a destination that is restored to an earlier mark is known by it. */
  async #taken({ disks, mark, run, by, signature }: Taken): Promise<void> {
    const { course, update } = this.#parts
    const { record } = course
    checkMark(record.peerId, record, { mark, run, by, signature })
    const said = this.#entries(disks)
    // It was said while `complete` was dealt with: a run that has everything does not say it any more.
    if (record.state === 'done') throw restoredRefusal(record)
    for (const { disk, entry } of said) this.#checkGeneration(disk, entry.generation)
    if (said.length === 0 || said.some(({ disk }) => disk.state !== 'departed')) return
    if (mark <= record.mark) {
      if (run !== record.markRun) throw restoredRefusal(record)
      return // Said again, or late.
    }
    const taken = said.map(({ disk }) => disk.departing.noteTaken())
    await update({ mark, markRun: run, markSigned: signature }, taken)
  }

  async #complete({ disks, copyingMs, by, signature }: Completion): Promise<Release> {
    const { course, tell } = this.#parts
    if (this.#record.state === 'done') return this.#released // Said again: the answer was lost.
    checkComplete(this.#record.peerId, this.#record, { by, signature })
    const said = this.#allEntries<CompleteDisk>(disks) // Nothing is released of a move of which a disk is not there.
    for (const { disk, entry } of said) this.#checkGeneration(disk, entry.generation)
    if (said.every(({ disk }) => disk.state === 'departed')) {
      this.#copyingMs = copyingMs
      await this.#release(said, signature)
    }
    tell({ kind: 'ended' })
    if (course.terms.sourcePolicy === 'delete') for (const { disk } of said) await this.#discardBytes(disk)
    return this.#released
  }

  get #released(): Release {
    const { course } = this.#parts
    const deeds = course.inMove.map(({ record }) => record.deed)
    return { answer: 'released', disks: this.#sent, released: releasesOf(deeds, course.id) }
  }

  async #release(said: readonly OfDisk<CompleteDisk>[], completeSigned: string): Promise<void> {
    const { course, update, ending, services } = this.#parts
    const at = services.clock.date().toISOString()
    for (const { disk, entry } of said) this.#hear(disk, entry)
    const facts = ({ id }: MovedDisk) => {
      const { verified, differed } = said.find(({ disk }) => disk.id === id)!.entry
      return { counters: this.countersOf({ id }), verified, differed }
    }
    const released = said.map(({ disk }) => {
      const { deed } = disk.record
      return disk.departing.release(deed && signReleased(services.key, deed, at))
    })
    await update({ ...ending('done', this.#record.peerSite, facts), completeSigned }, released)
    for (const { disk } of said) {
      course.figures(disk).missingBytes = 0
      disk.onSessions = () => {}
    }
  }

  async #discardBytes(disk: Disk): Promise<void> {
    await disk.departing.discardBytes().catch((error: unknown) => {
      const message = 'the bytes of a released disk stay: delete the disk'
      this.#parts.services.log('error', { disk: disk.name, error: String(error) }, message)
    })
  }

  /** What landed is the destination's to say, what was sent is ours. */
  #hear(disk: Disk, { data, sent, skippedZero, resent, spared = 0 }: MigrationCounters): void {
    this.#reported.set(disk.id, { data, skippedZero, spared, ...this.#parts.reads.atLeast(disk, { sent, resent }) })
  }

  get #sent(): readonly SentOf[] {
    return this.#parts.course.inMove.map((disk) => {
      const { sent, resent } = this.countersOf(disk)
      return { disk: disk.id, sent, resent }
    })
  }

  #checkGeneration(disk: Disk, generation: number): void {
    const { course, isReclaiming, isCurrent } = this.#parts
    if (isReclaiming()) throw new PeerRefusal(startingCode, `${disk.name} is being taken back`)
    const leadsTo = course.moved(disk).generation
    if (isCurrent() && generation === leadsTo && disk.state !== 'owned') return
    throw new PeerRefusal('stale', `migration ${course.id} leads to generation ${leadsTo}, not ${generation}`)
  }
}
