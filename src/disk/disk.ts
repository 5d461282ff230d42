// One disk at this site: its record, its files, its sessions, and the I/O of its state. The migration moves it from state to
// state through this class; every move is one durable commit, after which the guest's I/O is swapped.
//
// What always holds: guest requests reach the file only through the I/O of the state that the record names. A move whose
// commit failed leaves record and I/O as they were: the caller decides.

import assert from 'node:assert/strict'
import { type Export, type ExportHandle, NbdError } from '../guest/export.ts'
import type { BlockFile, FileExtent, Files, MaybePromise } from '../store/files.ts'
import type { Change, DiskRecord, Records } from '../store/records.ts'
import type { Arrival } from './arrival/arrival.ts'
import { Landing } from './arrival/landing.ts'
import type { Piece, Urgency } from './block-source.ts'
import { CommittedRecord } from './committed-record.ts'
import { contextsOf } from './contexts.ts'
import { DiskFiles } from './disk-files.ts'
import { Gate } from './gate.ts'
import { GuestErrors } from './guest-errors.ts'
import type { GuestIo } from './io/guest-io.ts'
import { ioOf, type RemotePart } from './io/of-state.ts'
import { RefusedIo } from './io/refused.ts'
import { Refusal } from './refusal.ts'
import { Reservation } from './reservation.ts'
import { DiskSession } from './session.ts'
import { Sessions } from './sessions.ts'
import { type DiskState, moved } from './states.ts'
import { DiskSyncs, type SyncServices } from './sync/disk-syncs.ts'
import { failureSentence } from './sync/failed-sync.ts'
import { heldSentence, powerLossSentence } from './sync/power-loss.ts'
import { UnsyncedWrites } from './sync/unsynced.ts'

export interface DiskServices extends SyncServices {
  readonly files: Files
  readonly records: Records
  readonly siteId: string
  /** `serve --read-only`. */
  readonly readOnly: boolean
  /** `serve --after-power-loss hold`. */
  readonly holdsAfterPowerLoss: boolean
}

export class Disk implements Export {
  readonly sizeBytes: number
  readonly readOnly: boolean
  readonly gate = new Gate()
  readonly sessions = new Sessions()
  readonly guestErrors: GuestErrors
  readonly unsynced: UnsyncedWrites
  /** Called after each session's end, and when a session opens. */
  onSessions: () => void = () => {}
  readonly #services: DiskServices
  readonly #record: CommittedRecord
  readonly #reservation: Reservation
  readonly #files: DiskFiles
  readonly #syncs: DiskSyncs
  readonly #landing: Landing
  readonly #closed = new AbortController()
  #remote: RemotePart | undefined
  #io: GuestIo
  #openTrouble: string | undefined
  #isVoid = false

  private constructor(services: DiskServices, record: DiskRecord) {
    const { name, sizeBytes } = record
    this.#services = services
    this.#record = new CommittedRecord(record, services.records, () => this.#chooseIo())
    this.sizeBytes = sizeBytes
    this.readOnly = services.readOnly
    const { log, clock } = services
    this.guestErrors = new GuestErrors({ diskName: name, log, date: () => clock.date() })
    this.#io = new RefusedIo(`disk ${name} is not open`, () => false)
    this.#reservation = new Reservation(name)
    this.#files = new DiskFiles(services.files, name)
    this.#landing = new Landing({ name, sizeBytes, files: this.#files, flush: () => this.flush() })
    this.#syncs = new DiskSyncs(services, this.#record, () =>
      this.unsynced.saving(() => this.#landing.saving(() => this.#files.sync())),
    )
    this.unsynced = new UnsyncedWrites({
      ...services,
      record: this.#record,
      sessions: this.sessions,
      bootId: services.files.bootId,
      closed: this.#closed.signal,
      flush: () => this.flush(),
    })
  }

  /** Opens a recorded disk in its state. `incoming` and `arriving` need their migration's part. */
  static async open(services: DiskServices, record: DiskRecord, remote?: RemotePart): Promise<Disk> {
    const disk = new Disk(services, record)
    disk.#remote = remote
    const { state } = disk
    try {
      if (state === 'owned' || state === 'incoming' || state === 'arriving' || state === 'departed') {
        await disk.#files.open(record, state === 'departed' || (state === 'owned' && services.readOnly))
      }
      if (state === 'arriving') {
        await disk.#files.openMaps(record)
        disk.sessions.reopened() // A disk that begins to arrive was opened before that.
      }
      // All of it was written anew.
      if (state === 'arriving' && record.failedSync) await disk.#record.mark({ failedSync: null })
      if (state === 'owned') await disk.#dropOldBytes()
      await disk.unsynced.opened()
      disk.#chooseIo()
    } catch (error) {
      await disk.#files.close()
      throw error
    }
    return disk
  }

  /** A disk whose file or maps cannot be used: it is shown with its trouble, and served to nobody. */
  static unusable(services: DiskServices, record: DiskRecord, trouble: string): Disk {
    const disk = new Disk(services, record)
    disk.#openTrouble = trouble
    disk.#io = new RefusedIo(`disk ${record.name} cannot be used: ${trouble}`, () => false)
    return disk
  }

  get record(): DiskRecord {
    return this.#record.now
  }

  get name(): string {
    return this.record.name
  }

  get state(): DiskState {
    return this.record.state as DiskState
  }

  get description(): string {
    return `vmstore disk ${this.record.id}, generation ${this.record.generation}`
  }

  /** A context has the same place, and so the same id, whenever it is offered. */
  get contexts(): readonly string[] {
    return contextsOf(this.record)
  }

  get io(): GuestIo {
    return this.#io
  }

  get arrival(): Arrival | undefined {
    return this.#files.arrival
  }

  get trouble(): string | undefined {
    const { failure } = this.#syncs
    if (this.#openTrouble || this.#fileTrouble) return this.#openTrouble ?? this.#fileTrouble
    if (failure) return failureSentence(this.record, failure)
    const { loss } = this.unsynced
    return loss ? powerLossSentence(this.record, loss, this.#services.holdsAfterPowerLoss) : undefined
  }

  get #fileTrouble(): string | undefined {
    const trouble = this.#files.block?.trouble
    return trouble && `${trouble}. Guests get errors. Stop vmstore, put the file back from a copy, and start it again.`
  }

  /** Its file or maps could not be opened. */
  get isUnusable(): boolean {
    return this.#openTrouble !== undefined
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

  /** The failed sync of this disk: to try it again mends nothing. */
  isFinal(error: unknown): boolean {
    return error !== undefined && error === this.#syncs.failure
  }

  /** Its file or maps could not be opened, or a sync failed: it takes no writes. */
  get isFailed(): boolean {
    return (this.#openTrouble ?? this.#fileTrouble ?? this.#syncs.failure) !== undefined
  }

  /** Power was lost with unflushed writes of clients that live on, and nothing else keeps the operator from accepting it. */
  get lostPower(): boolean {
    return !this.isFailed && this.unsynced.loss !== null
  }

  /** Power was lost, and whoever may have lived through it waits for the operator. */
  get isHeld(): boolean {
    return this.#services.holdsAfterPowerLoss && this.unsynced.loss !== null
  }

  /** A sync failed, and every block is here: what is left may be accepted. */
  get hasFailedSync(): boolean {
    return this.state === 'owned' && !this.#openTrouble && this.#syncs.failure !== undefined
  }

  /** Whether NBD_OPT_LIST shows the disk. A hypervisor may still open one that has departed, so that it can quit. */
  get isListed(): boolean {
    if (this.#openTrouble) return false
    return this.state === 'owned' || this.state === 'incoming' || this.state === 'arriving'
  }

  get isServed(): boolean {
    if (this.#openTrouble) return false
    return this.isListed || this.state === 'departed' || this.state === 'released'
  }

  /** Bytes that landed, or are landing, and are not durable yet together with their bits. */
  get unsavedBytes(): number {
    return this.#landing.unsavedBytes
  }

  /** While the block file is open; whoever wants to know it of a closed one looks at `record.path`. */
  get hasOpenFile(): boolean {
    return this.#files.block !== undefined
  }

  allocatedBytes(): number {
    return this.#files.block?.allocatedBytes() ?? 0
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
    return this.#reservation.claim(purpose)
  }

  open(client: string, isElsewhere = false): ExportHandle {
    if (isElsewhere && this.isHeld) throw new NbdError('EPERM', heldSentence(this.record))
    if (this.#reservation.isForDeletion) throw new NbdError('ESHUTDOWN', `disk ${this.name} is being deleted`)
    const session = new DiskSession(this, client, isElsewhere)
    this.onSessions()
    return session
  }

  sessionEnded(): void {
    this.onSessions()
  }

  /** Everything that any session wrote before this call is durable. */
  flush(): Promise<void> {
    return this.#syncs.group.flush()
  }

  /**
   * After a failed sync: what can be read now is written anew and synced, and then the disk takes writes again. Nobody is
   * attached, and no request is in flight: none of its writes would be lost. Rejects, and then it takes none, as before.
   */
  async acceptFailedSync(signal: AbortSignal): Promise<void> {
    using _claim = this.#reservation.claim('a failed sync of it is being accepted')
    assert(this.hasFailedSync && this.gate.inFlight === 0)
    await this.#syncs.mend(this.#bytes, AbortSignal.any([signal, this.#closed.signal]))
  }

  /** The operator has looked at what a loss of power may have left. */
  async acceptPowerLoss(): Promise<void> {
    if (this.unsynced.loss) await this.#record.mark(() => this.unsynced.acceptance)
  }

  // ---- for the migration: the source's side

  /** Before the guest may leave: what was answered to it and is not durable is known as such. */
  coverAnswered(): Promise<void> {
    return this.unsynced.coverAnswered()
  }

  /** The disk's bytes, past the gate: for the destination, before and after switchover. */
  readForPeer(offset: number, target: Uint8Array): MaybePromise<void> {
    return this.#bytes.read(offset, target)
  }

  extentsForPeer(offset: number, lengthBytes: number, limit: number): FileExtent[] {
    return this.#bytes.extents(offset, lengthBytes, limit)
  }

  get #bytes(): BlockFile {
    if (this.#files.block) return this.#files.block
    throw new Error(`the bytes of ${this.name} are not open: ${this.trouble ?? this.state}`)
  }

  /** Commits the disk's move to `state` with `facts`, together with `others`, and swaps the guest's I/O. */
  async move(state: DiskState, facts: Partial<DiskRecord>, others: readonly Change[] = []): Promise<void> {
    // What departs was synced. A loss that could not be recorded before goes along.
    const marks = () => (state === 'departed' ? { unsynced: null, powerLoss: this.unsynced.loss } : {})
    await this.#record.commit((record) => moved(record, state, { ...facts, ...marks() }), others)
    this.unsynced.moved()
    if (state !== 'released' && state !== 'gone' && state !== 'superseded') return
    await this.#files.close().catch((error: unknown) => {
      this.#services.log('error', { disk: this.name, error: String(error) }, 'a file could not be closed')
    })
  }

  /** departed → owned, under a generation of its own: the site that had the disk is lost for good. */
  async reclaim(generation: number, others: readonly Change[]): Promise<void> {
    assert(this.state === 'departed')
    if (!this.#services.readOnly) await this.#files.reopenForWriting(this.record)
    const facts = { generation, owner: this.#services.siteId, migrationId: null, taken: false }
    await this.move('owned', facts, others)
  }

  /** Commits facts that are no move. */
  async note(
    facts: Partial<Omit<DiskRecord, 'id' | 'state' | 'generation'>>,
    others: readonly Change[] = [],
  ): Promise<void> {
    await this.#record.commit((record) => ({ ...record, ...facts }), others)
  }

  // ---- for the migration: the destination's side

  /** Puts on record how far the log of the maps is durable, together with `others`. */
  async noteMapLog(others: readonly Change[]): Promise<void> {
    const noted = (record: DiskRecord) =>
      record.state === 'arriving' ? { ...record, mapLog: this.#files.mapLogMark } : record
    await this.#record.commit(noted, others)
  }

  /**
   * incoming → arriving: this site owns `generation`, and nothing is here yet. Durable before the first guest write is
   * answered. `powerLoss`: what the operator of the source has not accepted.
   */
  async beginArriving(
    generation: number,
    powerLoss: DiskRecord['powerLoss'],
    others: readonly Change[],
  ): Promise<void> {
    assert(this.state === 'incoming')
    // The maps are made first: an arriving disk always has them. Should the commit fail, the next attempt makes them anew.
    await this.#files.makeMaps(this.record, generation)
    const { atArrival: unsynced } = this.unsynced // A write that waits for this is answered after it.
    const { siteId: owner } = this.#services
    const facts = { generation, owner, mapLog: this.#files.mapLogMark, unsynced, powerLoss }
    await this.move('arriving', facts, others)
    this.unsynced.adopt()
  }

  /** Writes bytes that came where they are still missing. Resolves to how many bytes landed. */
  land(piece: Piece, urgency: Urgency = 'demand'): Promise<number> {
    return this.#landing.land(piece, urgency)
  }

  /** incoming → gone, or, when it was coming back, what it was before. */
  async abandonIncoming(others: readonly Change[]): Promise<void> {
    const { before, path } = this.record
    if (!before) {
      await this.move('gone', { migrationId: null }, others) // Whoever removes the disk removes its folder.
      return
    }
    const facts = { path: before.path, before: null, migrationId: null }
    await this.move(before.state as DiskState, facts, others)
    await this.#services.files.remove(path).catch(() => {}) // Its bytes are nobody's; each try has a file of its own.
  }

  /** arriving → owned: every block is here and durable. */
  async finishArriving(others: readonly Change[]): Promise<void> {
    assert(this.arrival?.missingBlocks === 0)
    await this.flush()
    await this.move('owned', { mapLog: null }, others)
    const log = this.#files.endMaps()
    await this.flush().catch(() => {}) // A sync that had begun with the log is over after this one, however it ends.
    await this.#dropOldBytes().catch(() => {}) // The next start tries again.
    await log?.discard().catch(() => {}) // A log that stays is of this generation, and nothing reads it any more.
  }

  /** Removes the bytes of a disk that another site has wholly, or that never were the only ones. */
  async discardBytes(): Promise<void> {
    assert(this.state === 'released' || this.state === 'gone' || this.state === 'superseded')
    await this.#services.files.remove(this.record.path)
  }

  /** Owned again: the bytes of the last time are of no more use. A file that is not in our folder is the operator's. */
  async #dropOldBytes(): Promise<void> {
    const { before, folder } = this.record
    if (!before) return
    if (before.path.startsWith(`${folder}/`)) await this.#services.files.remove(before.path)
    await this.note({ before: null })
  }

  /**
   * It is on its way back, as another Disk. Whoever is attached to this one from before may flush and quit, but not while
   * that one is incoming or guests write there: a flush here would be taken for a flush of what was answered there, or at its source.
   */
  comesBack(isFlushed: () => boolean): void {
    this.#io = new RefusedIo(`disk ${this.name} left since this client connected: connect again`, isFlushed)
  }

  async close(): Promise<void> {
    await this.#syncs.recordBeforeClose()
    await this.unsynced.close()
    this.#closed.abort(new Error(`disk ${this.name} is closing`))
    if (!(this.#io instanceof RefusedIo)) this.#io = new RefusedIo(`disk ${this.name} is closed`, () => false)
    await this.#files.close()
  }

  #chooseIo(): void {
    this.#io = this.#ioOf(this.state)
  }

  #ioOf(state: DiskState): GuestIo {
    return ioOf(state, this.record, {
      files: this.#files,
      syncs: this.#syncs.group,
      remote: this.#remote,
      closed: this.#closed.signal,
      land: (piece) => this.land(piece),
      current: () => this.#io,
    })
  }
}
