// What both sides of a migration share: the record, what it tells its listeners, and how fast it goes.

import type { Clock } from '../block/clock.ts'
import type { Run } from '../block/units.ts'
import type { Disk } from '../disk/disk.ts'
import type { Change, MigrationCounters, MigrationRecord, MovedDisk, Records } from '../store/records.ts'
import type { Counterpart } from './counterpart.ts'
import type { WaitingGuests } from './held-writes.ts'
import { changed, diskNames, type MoveChanges, onlyDisk } from './move.ts'
import type { Supersession } from './supersession.ts'
import { type Terms, termsOf } from './terms.ts'

export interface CourseServices {
  readonly records: Records
  readonly clock: Clock
  readonly siteId: string
  /** Of this site's kernel. */
  readonly bootId: string
  readonly log: CourseLog
  /** Bytes free for new disks, and for what lands. */
  freeBytes(): Promise<number>
}

export type CourseLog = (level: 'info' | 'warn' | 'error', facts: Record<string, unknown>, message: string) => void

/** What happened, for whoever watches. `ended` is the last. */
export type CourseEvent =
  | { readonly kind: 'step'; readonly message: string }
  | { readonly kind: 'ready'; readonly message: string }
  | { readonly kind: 'switchover' }
  | { readonly kind: 'progress' }
  | { readonly kind: 'ended' }

/** Bytes a second over the last seconds, and seconds left at this rate (null: not known). */
export interface Pace {
  readonly rate: number
  readonly secondsLeft: number | null
}

export const still: Pace = { rate: 0, secondsLeft: null }

/** Migration states that a record holds; none is left again. */
export const endedStates: readonly string[] = ['done', 'cancelled', 'failed']

export abstract class Course {
  readonly disk: Disk
  /** The other site. */
  readonly counterpart: Counterpart
  /** Bytes of the disk that the destination still lacks. */
  missingBytes: number
  /** Ranges that the source's disk cannot read, as far as the copy has met them. */
  unreadable: readonly Run[] = []
  protected readonly services: CourseServices
  protected readonly stopping = new AbortController()
  #record: MigrationRecord
  #note: string | null = null
  #isLinked = true
  #updates: Promise<void> = Promise.resolve()
  readonly #listeners = new Set<(event: CourseEvent) => void>()

  constructor(services: CourseServices, disk: Disk, record: MigrationRecord, counterpart: Counterpart) {
    this.services = services
    this.disk = disk
    this.#record = record
    this.counterpart = counterpart
    this.missingBytes = onlyDisk(record).sizeBytes
  }

  get record(): MigrationRecord {
    return this.#record
  }

  /** What the record says of the disk. */
  get moved(): MovedDisk {
    return onlyDisk(this.#record)
  }

  get terms(): Terms {
    return termsOf(this.#record)
  }

  get id(): string {
    return this.#record.id
  }

  get ended(): boolean {
    return endedStates.includes(this.#record.state)
  }

  /** What it waits for, or what went wrong, in a sentence. */
  get note(): string | null {
    return this.#note ?? this.#record.note
  }

  /** Nothing is said of it while nothing comes: an old figure would be believed. */
  get pace(): Pace {
    return this.ended || !this.#isLinked || this.record.paused ? still : this.livePace
  }

  protected abstract get livePace(): Pace

  /** How long the copy has copied, without what it was held for. */
  abstract get copyingMs(): number

  /** Writes at the destination that wait for switchover, or were refused before it. */
  abstract get guests(): WaitingGuests

  /** The link to the other site is up, or is not. */
  linkChanged(isUp: boolean): void {
    this.#isLinked = isUp
    this.tell({ kind: 'progress' })
  }

  /** Bytes, up to now; the record has them as of its last commit. */
  abstract get counters(): MigrationCounters

  /** What an operator does once the destination serves the disk. */
  abstract get readyMessage(): string

  /** `switching` while an acquire is under way; the record's state otherwise. */
  abstract get liveState(): string

  /** The site that owns the disk as far as this side knows, or `unknown`. */
  abstract get owner(): string

  /** The operator: now; `force`: also while a client works at the source. @throws Refusal, LinkError, PeerRefusal */
  abstract switchover(force: boolean, signal: AbortSignal): Promise<void>

  /** Holds the background copy, durably, or lets it go on. @throws Refusal, LinkError, PeerRefusal */
  abstract setPaused(paused: boolean, signal: AbortSignal): Promise<void>

  /** Ends it before switchover; `force`: also without the source. @throws Refusal */
  abstract cancel(force: boolean, signal: AbortSignal): Promise<void>

  /** A later generation of the disk exists elsewhere. Resolves once that is on record. */
  abstract supersede(by: Supersession): Promise<void>

  /** Resolves when nothing of it runs any more, after `stop`. */
  abstract settled(): Promise<void>

  listen(listener: (event: CourseEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Ends what this side does in memory; nothing durable changes. */
  stop(): void {
    this.stopping.abort(new Error('this site is stopping'))
  }

  protected tell(event: CourseEvent): void {
    for (const listener of this.#listeners) listener(event)
  }

  /** Whom the operator's --force cut off, if anybody. */
  protected tellCutOff(): void {
    const { cutOff } = this.record
    if (cutOff.length === 0) return
    const disk = diskNames(this.record)
    const message = `${disk} was taken by --force from clients at work at the source: ${cutOff.join(', ')}`
    this.services.log('warn', { migration: this.id, disk, cutOff }, message)
    this.tell({ kind: 'step', message })
  }

  protected setNote(note: string | null): void {
    if (note === this.#note) return
    this.#note = note
    if (note) this.services.log('warn', { migration: this.id, disk: diskNames(this.record) }, note)
    this.tell({ kind: 'progress' })
  }

  /**
   * Commits changes of the record, one after the other, each on top of the one before. `through` commits the change
   * together with what must be durable in the same transaction.
   */
  protected update(
    changes: MoveChanges,
    through: (change: Change) => Promise<void> = (change) => this.services.records.commit([change]),
  ): Promise<void> {
    const work = this.#updates.then(async () => {
      const record = changed(this.#record, changes)
      await through({ put: 'migration', record })
      this.#record = record
    })
    this.#updates = work.catch(() => {})
    return work
  }

  /** What a record says of a migration that is over. `owner`: the site that owns the disk then, or `unknown`. */
  protected ending(state: 'done' | 'cancelled' | 'failed', owner: string, disk: Partial<MovedDisk> = {}): MoveChanges {
    const { copyingMs, guests } = this
    return { state, endedAt: this.now(), copyingMs, refusedWrites: guests.refused, disk: { ...disk, owner } }
  }

  protected now(): string {
    return this.services.clock.date().toISOString()
  }
}
