// One disk at this site: the export that guests open, its state and what is wrong with it, and the two faces that a migration
// gets of it. What makes it up (record, files, syncs, landings, the I/O of its state) is put together in parts.ts, and stays
// inside.
//
// What always holds: guest requests reach the file only through the I/O of the state that the record names. A move whose
// commit failed leaves record and I/O as they were: the caller decides.

import assert from 'node:assert/strict'
import { blockSizeBytes } from '../block/block-map.ts'
import { type Export, type ExportHandle, GuestError, type StatusKind } from '../guest/export.ts'
import type { DiskRecord } from '../store/records.ts'
import type { Arriving } from './arriving.ts'
import { statusesOf } from './block-status.ts'
import type { Departing } from './departing.ts'
import type { Gate } from './gate.ts'
import type { GuestErrors } from './guest-errors.ts'
import { dropOldBytes } from './old-bytes.ts'
import { type DiskFacts, DiskParts, type DiskServices } from './parts.ts'
import type { DiskPlan } from './plan.ts'
import { Refusal } from './refusal.ts'
import type { RemotePart } from './remote-part.ts'
import { DiskSession } from './session.ts'
import type { AttachedSessions } from './sessions.ts'
import type { DiskState } from './states.ts'
import { heldSentence } from './sync/power-loss.ts'

export type { DiskServices } from './parts.ts'

export class Disk implements Export {
  readonly sizeBytes: number
  readonly readOnly: boolean
  /** What its source's course may do with it. */
  readonly departing: Departing
  /** What its destination's course may do with it. */
  readonly arriving: Arriving
  /** Called after each session's end, and when a session opens. */
  onSessions: () => void = () => {}
  readonly #parts: DiskParts
  #isVoid = false
  #isKeyGone = false

  private constructor(services: DiskServices, facts: Omit<DiskFacts, 'sessionEnded'>) {
    this.sizeBytes = facts.record.sizeBytes
    this.readOnly = services.readOnly
    this.#parts = new DiskParts(services, { ...facts, sessionEnded: () => this.onSessions() })
    this.departing = this.#parts.departing
    this.arriving = this.#parts.arriving
  }

  /** Opens a recorded disk in its state. `incoming` and `arriving` need their migration's part. */
  static async open(services: DiskServices, record: DiskRecord, remote?: RemotePart): Promise<Disk> {
    const disk = new Disk(services, { record, remote })
    const { files, unsynced, tracking, io } = disk.#parts
    const { state } = disk
    try {
      if (state === 'owned' || state === 'incoming' || state === 'arriving' || state === 'departed') {
        await files.open(record, state === 'departed' || (state === 'owned' && services.readOnly))
      }
      if (state === 'incoming') await files.openTentative(record)
      if (state === 'arriving') {
        await files.openMaps(record)
        disk.reopened() // A disk that begins to arrive was opened before that.
      }
      // All of it was written anew.
      if (state === 'arriving' && record.failedSync) await disk.#parts.record.mark({ failedSync: null })
      if (state === 'owned') await dropOldBytes(disk.#parts.record, services.files)
      await unsynced.opened()
      io.choose()
      await tracking.resume()
    } catch (error) {
      await files.close()
      throw error
    }
    return disk
  }

  /**
   * A disk whose file or maps cannot be used, or that its deed gives to another key (`isKeyGone`): it is shown with its trouble,
   * and served to nobody.
   */
  static unusable(services: DiskServices, record: DiskRecord, trouble: string, isKeyGone = false): Disk {
    const disk = new Disk(services, { record, trouble })
    disk.#isKeyGone = isKeyGone
    disk.#parts.io.refuse(`disk ${record.name} cannot be used: ${trouble}`, () => false)
    return disk
  }

  // ---- its state

  get record(): DiskRecord {
    return this.#parts.record.now
  }

  get id(): string {
    return this.record.id
  }

  get name(): string {
    return this.record.name
  }

  get state(): DiskState {
    return this.record.state as DiskState
  }

  /** A later generation exists elsewhere: whatever is on record yet, this one is neither given away nor taken back. */
  get isVoid(): boolean {
    return this.#isVoid
  }

  becomesVoid(): void {
    this.#isVoid = true
  }

  /** Guests have writes answered here, or may; or at the source from which it comes. */
  get isAnswered(): boolean {
    return ['owned', 'incoming', 'arriving'].includes(this.state)
  }

  /** How much of it is here. */
  get present(): { readonly blocks: number; readonly bytes: number } {
    const { arrival } = this.#parts.files
    if (this.state === 'incoming' || this.state === 'gone' || this.isSeedOnly) return { blocks: 0, bytes: 0 }
    if (this.state === 'arriving' && arrival) return { blocks: arrival.presentBlocks, bytes: arrival.presentBytes }
    return { blocks: Math.ceil(this.sizeBytes / blockSizeBytes), bytes: this.sizeBytes }
  }

  /** Of a move that was cancelled: some of it was copied, and is kept for the next one (arriving.ts). */
  get isSeedOnly(): boolean {
    return this.state === 'released' && !this.record.taken
  }

  /** While the block file is open; whoever wants to know it of a closed one looks at `record.path`. */
  get hasOpenFile(): boolean {
    return this.#parts.files.block !== undefined
  }

  allocatedBytes(): number {
    return this.#parts.files.block?.allocatedBytes() ?? 0
  }

  /** It is in this migration from now on. */
  joinMigration(migrationId: string): DiskPlan {
    return this.#parts.moves.planFacts({ migrationId })
  }

  /** `deed`: with what its source signed at the end, if anything. */
  leaveMigration(deed?: DiskRecord['deed']): DiskPlan {
    return this.#parts.moves.planFacts({ migrationId: null, ...(deed && { deed }) })
  }

  /** A site that the record names has another key from now on: what is said of it, and nothing else. */
  rewrite(facts: (now: DiskRecord) => Partial<Pick<DiskRecord, 'owner' | 'deed'>>): DiskPlan {
    return { record: this.#parts.record, next: (now) => ({ ...now, ...facts(now) }) }
  }

  /**
   * → superseded: `owner` has a later `generation`, or the same further on; `deed`: by which that is so; `rival`: another that
   * forks from ours.
   */
  supersede({ generation, owner, deed, rival }: Pick<DiskRecord, 'generation' | 'owner' | 'deed' | 'rival'>): DiskPlan {
    const facts = { generation, owner, rival, ...(deed && { deed }) }
    return this.#parts.moves.plan({ to: 'superseded', facts: { ...facts, migrationId: null, dirtyEpoch: null } })
  }

  /** Puts on record that whoever had given the disk to this site has let it go. */
  noteDeed(deed: DiskRecord['deed']): DiskPlan {
    return this.#parts.moves.planFacts({ deed })
  }

  /**
   * Claims a disk that is in no migration for one purpose (reservation.ts).
   * @throws Refusal `disk-busy`, `migrating`
   */
  reserve(purpose: string): Disposable {
    const { migrationId } = this.record
    const facts = { disk: this.name, safe: 'Nothing was changed.' }
    if (migrationId !== null) {
      const next = `See how far it is: vmstore migration show ${migrationId}.`
      throw new Refusal('migrating', `${this.name} is in migration ${migrationId} already`, { ...facts, next })
    }
    return this.#parts.reservation.claim(purpose)
  }

  /** Everything that any session wrote before this call is durable. */
  flush(): Promise<void> {
    return this.#parts.syncs.group.flush()
  }

  // ---- what is wrong with it (trouble.ts)

  get trouble(): string | undefined {
    return this.#parts.trouble.sentence
  }

  get isUnusable(): boolean {
    return this.#parts.trouble.isUnusable
  }

  /** This site's key is not the one that holds the disk. */
  get isKeyGone(): boolean {
    return this.#isKeyGone
  }

  get isFailed(): boolean {
    return this.#parts.trouble.isFailed
  }

  get hasFailedSync(): boolean {
    return this.#parts.trouble.hasFailedSync
  }

  get lostPower(): boolean {
    return this.#parts.trouble.lostPower
  }

  get isHeld(): boolean {
    return this.#parts.trouble.isHeld
  }

  isFinal(error: unknown): boolean {
    return this.#parts.trouble.isFinal(error)
  }

  /**
   * After a failed sync: what can be read now is written anew and synced, and then the disk takes writes again. Nobody is
   * attached, and no request is in flight: none of its writes would be lost. Rejects, and then it takes none, as before.
   */
  async acceptFailedSync(signal: AbortSignal): Promise<void> {
    using _claim = this.#parts.reservation.claim('a failed sync of it is being accepted')
    assert(this.hasFailedSync && this.#parts.gate.inFlight === 0)
    await this.#parts.tracking.forget() // What was copied may be what the kernel dropped.
    await this.#parts.syncs.mend(this.#parts.bytes, AbortSignal.any([signal, this.#parts.closed.signal]))
  }

  /** The operator has looked at what a loss of power may have left. */
  async acceptPowerLoss(): Promise<void> {
    if (this.#parts.unsynced.loss) await this.#parts.record.mark(() => this.#parts.unsynced.acceptance)
  }

  // ---- its guests

  get description(): string {
    return `vmstore disk ${this.record.id}, generation ${this.record.generation}`
  }

  get statuses(): readonly StatusKind[] {
    return statusesOf(this.record)
  }

  /** Whether a list of exports has the disk. A hypervisor may still open one that has departed, so that it can quit. */
  get isListed(): boolean {
    return !this.isUnusable && this.isAnswered
  }

  get isServed(): boolean {
    return !this.isUnusable && (this.isAnswered || this.state === 'departed' || this.state === 'released')
  }

  /** What its guests were answered with, other than success. */
  get guestErrors(): GuestErrors {
    return this.#parts.guestErrors
  }

  /** Who is attached, and whether its writers are quiet. */
  get sessions(): AttachedSessions {
    return this.#parts.sessions
  }

  open(client: string, isElsewhere = false): ExportHandle {
    if (isElsewhere && this.isHeld) throw new GuestError('not-permitted', heldSentence(this.record))
    if (this.#parts.reservation.isForDeletion) throw new GuestError('not-served', `disk ${this.name} is being deleted`)
    const session = new DiskSession(this.#parts.sessionHost, client, isElsewhere)
    this.onSessions()
    return session
  }

  /** The disk may have been written in sessions of a daemon that ended. */
  reopened(): void {
    this.#parts.sessions.reopened()
  }

  /** Counts their requests, and holds them while the disk freezes. */
  get gate(): Gate {
    return this.#parts.gate
  }

  /**
   * It is on its way back, as another Disk. Whoever is attached to this one from before may flush and quit, but not while
   * that one is incoming or guests write there: a flush here would be taken for a flush of what was answered there, or at its source.
   */
  comesBack(isFlushed: () => boolean): void {
    this.#parts.io.refuse(`disk ${this.name} left since this client connected: connect again`, isFlushed)
  }

  async close(): Promise<void> {
    await this.#parts.syncs.recordBeforeClose()
    await this.#parts.unsynced.close()
    this.#parts.closed.abort(new Error(`disk ${this.name} is closing`))
    this.#parts.io.close()
    await this.#parts.tracking.close()
    await this.#parts.files.close()
  }
}
