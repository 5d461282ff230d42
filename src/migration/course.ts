// What both sides of a migration share: the record, what it tells its listeners, and how fast it goes.

import assert from 'node:assert/strict'
import type { Clock } from '../block/clock.ts'
import type { Run } from '../block/units.ts'
import type { SigningKey } from '../deed/keys.ts'
import type { Disk } from '../disk/disk.ts'
import { commitTogether, type DiskPlan } from '../disk/plan.ts'
import type { MigrationCounters, MigrationRecord, MovedDisk, Records } from '../store/records.ts'
import type { Ahead } from './ahead.ts'
import type { SeedShelf } from './copy/seed.ts'
import type { Counterpart } from './counterpart.ts'
import type { WaitingGuests } from './held-writes.ts'
import { changed, diskNames, type MoveChanges, movedDisk, ofEach, only, summed } from './move.ts'
import { rateSentence } from './rate-sentence.ts'
import type { Supersession } from './supersession.ts'
import { copiesAhead, type Terms, termsOf } from './terms.ts'

export interface CourseServices {
  readonly records: Records
  readonly clock: Clock
  readonly siteId: string
  /** This site's own: with it is signed what it gives. */
  readonly key: SigningKey
  /** The site of a key, by its fingerprint. */
  readonly siteOf: (fingerprint: string) => string
  /** Of this site's kernel. */
  readonly bootId: string
  readonly log: CourseLog
  /** What operators may name as seeds. Absent: nothing. */
  readonly seeds?: SeedShelf
  /** Of a copy ahead of switchover: data in one round. Absent: as usual. */
  readonly roundBytes?: number
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

/** Of one disk of a move, as it stands now. */
export interface DiskFigures {
  /** Bytes that the destination still lacks. */
  missingBytes: number
  /** Ranges that the source's disk cannot read, as far as the copy has met them. */
  unreadable: readonly Run[]
  /** disk/picture.ts; null: nothing is known of it. */
  picture: string | null
}

/** What is to be committed of disks, or what makes it when its turn comes. */
export type Plans = readonly DiskPlan[] | (() => readonly DiskPlan[] | Promise<readonly DiskPlan[]>)

export abstract class Course {
  /** In the move's order, also those that have left it since this daemon started. */
  readonly disks: readonly Disk[]
  /** The other site. */
  readonly counterpart: Counterpart
  protected readonly services: CourseServices
  protected readonly stopping = new AbortController()
  readonly #figures: ReadonlyMap<string, DiskFigures>
  #record: MigrationRecord
  #note: string | null = null
  #isLinked = true
  #updates: Promise<void> = Promise.resolve()
  readonly #listeners = new Set<(event: CourseEvent) => void>()

  /** `disks`: those of the record that have not left the move, in its order. */
  constructor(services: CourseServices, disks: readonly Disk[], record: MigrationRecord, counterpart: Counterpart) {
    assert.deepEqual(
      disks.map(({ id }) => id),
      record.disks.filter(({ hasLeft }) => !hasLeft).map(({ id }) => id),
    )
    this.services = services
    this.disks = disks
    this.#record = record
    this.counterpart = counterpart
    this.#figures = new Map(
      record.disks.map(({ id, sizeBytes, hasLeft }) => {
        const unreadable: readonly Run[] = []
        return [id, { missingBytes: hasLeft ? 0 : sizeBytes, unreadable, picture: null }]
      }),
    )
  }

  get disk(): Disk {
    return only(this.disks)
  }

  get record(): MigrationRecord {
    return this.#record
  }

  /** Those that have not left it. */
  get inMove(): readonly Disk[] {
    return this.disks.filter((disk) => !this.moved(disk).hasLeft)
  }

  /** What the record says of a disk of it. */
  moved({ id }: { readonly id: string }): MovedDisk {
    return movedDisk(this.#record, id)
  }

  /** How a disk of it stands. */
  figures({ id }: { readonly id: string }): DiskFigures {
    const figures = this.#figures.get(id)
    assert(figures)
    return figures
  }

  /** Of all disks together. */
  get missingBytes(): number {
    return [...this.#figures.values()].reduce((sum, { missingBytes }) => sum + missingBytes, 0)
  }

  /** Bytes of all disks, up to now. */
  get counters(): MigrationCounters {
    return summed(this.record.disks.map((disk) => (disk.hasLeft ? disk.counters : this.countersOf(disk))))
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

  /** Bytes of a disk, up to now; the record has them as of its last commit. */
  abstract countersOf(disk: { readonly id: string }): MigrationCounters

  /** What an operator does once the destination serves the disk. */
  abstract get readyMessage(): string

  /** `switching` while an acquire is under way; `pre-copying` until it is ready; the record's state otherwise. */
  abstract get liveState(): string

  /** Before switchover, where something is copied ahead of it; else null. */
  abstract get ahead(): Ahead | null

  /** What is copied ahead of switchover is not so far yet. */
  protected get isPreCopying(): boolean {
    const { state, readyAt } = this.#record
    return state === 'ready' && readyAt === null && copiesAhead(this.terms)
  }

  /** The site that owns a disk as far as this side knows, or `unknown`. */
  abstract ownerOf(disk: Disk): string

  /** Of the disks that are in the move: they pass together. */
  get owner(): string {
    return this.ownerOf(this.inMove[0] ?? this.disks[0]!)
  }

  /** The operator: now; `force`: also while a client works at the source. @throws Refusal, LinkError, PeerRefusal */
  abstract switchover(force: boolean, signal: AbortSignal): Promise<void>

  /** Holds the background copy, durably, or lets it go on. @throws Refusal, LinkError, PeerRefusal */
  abstract setPaused(paused: boolean, signal: AbortSignal): Promise<void>

  /** Bounds the background copy anew, durably; null: no bound. @throws Refusal, LinkError, PeerRefusal */
  abstract setMaxRate(maxRate: number | null, signal: AbortSignal): Promise<void>

  /** Ends it before switchover; `force`: also without the source. @throws Refusal */
  abstract cancel(force: boolean, signal: AbortSignal): Promise<void>

  /**
   * The other site is trusted no more: it is over here, whatever that site says, and needs nothing of it. Resolves, once that is
   * on record, to a sentence: what became of it, and what is lost with that site. @throws while it cannot be recorded
   */
  abstract endWithout(peerName: string): Promise<string>

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

  /** Puts the bound of the copy on record. */
  protected async noteMaxRate(maxRate: number | null): Promise<void> {
    if (this.ended) return
    const isNew = maxRate !== this.terms.maxRate
    await this.update({ terms: { ...this.terms, maxRate } }) // Also the same: another may be on its way to the record.
    if (isNew) this.tell({ kind: 'step', message: rateSentence(maxRate) })
  }

  protected setNote(note: string | null): void {
    if (note === this.#note) return
    this.#note = note
    if (note) this.services.log('warn', { migration: this.id, disk: diskNames(this.record) }, note)
    this.tell({ kind: 'progress' })
  }

  /**
   * Commits changes of the record, one after the other, each on top of the one before, and what becomes of disks of the move,
   * as one transaction: all is durable, or nothing has changed here. Then it resolves, or rejects.
   */
  protected update(changes: MoveChanges, plans: Plans = []): Promise<void> {
    const work = this.#updates.then(async () => {
      const planned = typeof plans === 'function' ? await plans() : plans
      // What was still to be told of a move that is over now would be put on top of what its end says, and of what comes after.
      // What becomes of a disk is never left out: whoever has it committed goes on as if it were.
      if (this.ended && changes.endedAt === undefined && planned.length === 0) return
      const record = changed(this.#record, changes)
      const committed = () => {
        this.#record = record
      }
      if (planned.length > 0) return commitTogether(planned, [{ put: 'migration', record }], committed)
      await this.services.records.commit([{ put: 'migration', record }])
      committed()
    })
    this.#updates = work.catch(() => {})
    return work
  }

  /**
   * What a record says of a migration that is over. `ownerOf`: the site that owns a disk then, or `unknown`; `facts`: what
   * else is true of it. Of disks that left the move before it stays said what was.
   */
  protected ending(
    state: 'done' | 'cancelled' | 'failed',
    ownerOf: string | ((disk: MovedDisk) => string),
    facts: (disk: MovedDisk) => Partial<MovedDisk> = () => ({}),
  ): MoveChanges {
    const { copyingMs, guests } = this
    const disks = ofEach(this.#record, (disk) => ({
      ...facts(disk),
      owner: typeof ownerOf === 'function' ? ownerOf(disk) : ownerOf,
    }))
    return { state, endedAt: this.now(), copyingMs, refusedWrites: guests.refused, disks }
  }

  protected now(): string {
    return this.services.clock.date().toISOString()
  }
}
