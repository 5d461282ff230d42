// One disk at this site: its record, its file, its maps while it arrives, and the I/O of its state. The migration moves it
// from state to state through this class; every move is one durable commit, after which the guest's I/O is swapped.
//
// What always holds:
// - `record` is what was last committed. A move whose commit failed leaves record and I/O as they were: the caller decides.
// - Guest requests reach the file only through the I/O of the state that the record names.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type Export, type ExportHandle, NbdError } from '../nbd/export.ts'
import { blockSizeBytes } from '../store/block-map.ts'
import type { BlockFile, FileExtent, Files, MaybePromise } from '../store/files.ts'
import { MapLog } from '../store/map-log.ts'
import type { Change, DiskRecord, Records } from '../store/records.ts'
import { StoreError } from '../store/store-error.ts'
import { Arrival, type Span, spanOf } from './arrival.ts'
import type { BlockSource, Piece } from './block-source.ts'
import type { Clock } from './clock.ts'
import { contextsOf } from './contexts.ts'
import { DemandFetch } from './demand.ts'
import { failureOf, failureSentence } from './failed-sync.ts'
import { Gate } from './gate.ts'
import { type GuestIo, zeroFile } from './guest-io.ts'
import { ArrivingIo } from './io-arriving.ts'
import { IncomingIo, type IncomingPart } from './io-incoming.ts'
import { OwnedIo } from './io-owned.ts'
import { RefusedIo } from './io-refused.ts'
import { Sessions } from './quiet.ts'
import { Refusal } from './refusal.ts'
import { rewrite } from './rewrite.ts'
import { DiskSession } from './session.ts'
import { type DiskState, moved } from './states.ts'
import { SyncGroup } from './sync-group.ts'

export interface DiskServices {
  readonly files: Files
  readonly records: Records
  readonly siteId: string
  /** `serve --read-only`. */
  readonly readOnly: boolean
  readonly clock: Pick<Clock, 'date'>
  readonly log: (level: 'error' | 'warn', facts: Record<string, unknown>, message: string) => void
}

/** What a disk needs of its migration while it is incoming or arriving. */
export interface RemotePart extends IncomingPart {
  /** The source's frozen bytes, once this site owns. */
  readonly frozen: BlockSource
}

const saveEveryBytes = 16 * 2 ** 20

export const mapLogName = 'maps.log'
/** The purpose of a reservation under which no session may open. */
export const deletion = 'it is being deleted'

export class Disk implements Export {
  readonly sizeBytes: number
  readonly readOnly: boolean
  readonly gate = new Gate()
  readonly sessions = new Sessions()
  /** Called after each session's end, and when a session opens. */
  onSessions: () => void = () => {}
  readonly #services: DiskServices
  #record: DiskRecord
  #file: BlockFile | undefined
  #isFileReadOnly = false
  #mapLog: MapLog | undefined
  #arrival: Arrival | undefined
  #remote: RemotePart | undefined
  #io: GuestIo
  readonly #syncs: SyncGroup
  readonly #closed = new AbortController()
  #commits: Promise<void> = Promise.resolve()
  #openTrouble: string | undefined
  #reserved: string | undefined
  #unsavedBytes = 0
  #landingBytes = 0
  #isSaving = false

  private constructor(services: DiskServices, record: DiskRecord) {
    this.#services = services
    this.#record = record
    this.sizeBytes = record.sizeBytes
    this.readOnly = services.readOnly
    this.#io = new RefusedIo(`disk ${record.name} is not open`)
    const failure = failureOf(record)
    this.#syncs = new SyncGroup(() => this.#syncAll(), {
      ...(failure && { failure }),
      onFailed: (error) => this.#noteFailedSync(error),
    })
  }

  /** Opens a recorded disk in its state. `incoming` and `arriving` need their migration's part. */
  static async open(services: DiskServices, record: DiskRecord, remote?: RemotePart): Promise<Disk> {
    const disk = new Disk(services, record)
    disk.#remote = remote
    const { state } = disk
    if (state === 'owned' || state === 'incoming' || state === 'arriving' || state === 'departed') {
      const readOnly = state === 'departed' || (state === 'owned' && services.readOnly)
      disk.#file = await disk.#openFile(readOnly)
      disk.#isFileReadOnly = readOnly
    }
    try {
      const sizeBytes = disk.#file?.sizeBytes ?? record.sizeBytes
      if (sizeBytes !== record.sizeBytes) {
        throw new StoreError('damaged', `${record.path} has ${sizeBytes} bytes, not ${record.sizeBytes} as recorded`)
      }
      if (state === 'arriving') await disk.#openMaps()
      if (state === 'arriving' && record.failedSync) await disk.#mark(null) // All of it was written anew.
      if (state === 'owned') await disk.#dropOldBytes()
      disk.#chooseIo()
    } catch (error) {
      await disk.#mapLog?.close()
      await disk.#file?.close()
      throw error
    }
    return disk
  }

  /** A disk whose file or maps cannot be used: it is shown with its trouble, and served to nobody. */
  static unusable(services: DiskServices, record: DiskRecord, trouble: string): Disk {
    const disk = new Disk(services, record)
    disk.#openTrouble = trouble
    disk.#io = new RefusedIo(`disk ${record.name} cannot be used: ${trouble}`)
    return disk
  }

  get record(): DiskRecord {
    return this.#record
  }

  get name(): string {
    return this.#record.name
  }

  get state(): DiskState {
    return this.#record.state as DiskState
  }

  get description(): string {
    return `vmstore disk ${this.#record.id}, generation ${this.#record.generation}`
  }

  /** A context has the same place, and so the same id, whenever it is offered. */
  get contexts(): readonly string[] {
    return contextsOf(this.#record)
  }

  get io(): GuestIo {
    return this.#io
  }

  get arrival(): Arrival | undefined {
    return this.#arrival
  }

  get trouble(): string | undefined {
    return this.#openTrouble ?? (this.#syncs.failure && failureSentence(this.#record, this.#syncs.failure))
  }

  /** Its file or maps could not be opened. */
  get isUnusable(): boolean {
    return this.#openTrouble !== undefined
  }

  /** A sync failed, and every block is here: what is left may be accepted. */
  get canBeAccepted(): boolean {
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
    return this.#unsavedBytes + this.#landingBytes
  }

  allocatedBytes(): number {
    return this.#file?.allocatedBytes() ?? 0
  }

  /**
   * Claims the disk for something that must not run beside another of its kind (to begin a migration, to delete), in one
   * synchronous step. Dispose when it is done, or durable.
   * @throws Refusal `disk-busy`, `migrating`
   */
  reserve(purpose: string): Disposable {
    const { migrationId } = this.#record
    const facts = { disk: this.name, safe: 'Nothing was changed.' }
    if (migrationId !== null) {
      const next = `vmstore migration show ${migrationId} tells how far it is.`
      throw new Refusal('migrating', `${this.name} is in migration ${migrationId} already`, { ...facts, next })
    }
    return this.#claim(purpose)
  }

  /** One purpose at a time, in a migration or not. @throws Refusal `disk-busy` */
  #claim(purpose: string): Disposable {
    if (this.#reserved !== undefined) {
      throw new Refusal('disk-busy', `${this.name} is busy: ${this.#reserved}`, {
        disk: this.name,
        safe: 'Nothing was changed.',
        next: 'Try again in a moment.',
      })
    }
    this.#reserved = purpose
    return {
      [Symbol.dispose]: () => {
        this.#reserved = undefined
      },
    }
  }

  open(client: string): ExportHandle {
    if (this.#reserved === deletion) throw new NbdError('ESHUTDOWN', `disk ${this.name} is being deleted`)
    const session = new DiskSession(this, client)
    this.onSessions()
    return session
  }

  sessionEnded(): void {
    this.onSessions()
  }

  /** Everything that any session wrote before this call is durable. */
  flush(): Promise<void> {
    return this.#syncs.flush()
  }

  /**
   * After a failed sync: what can be read now is written anew and synced, and then the disk takes writes again. Nobody is
   * attached, and no request is in flight: none of its writes would be lost. Rejects, and then it takes none, as before.
   */
  async acceptFailedSync(signal: AbortSignal): Promise<void> {
    using _claim = this.#claim('a failed sync of it is being accepted')
    assert(this.canBeAccepted && this.gate.inFlight === 0)
    const file = this.#file!
    await rewrite(file, 0, this.sizeBytes, AbortSignal.any([signal, this.#closed.signal]))
    await file.sync()
    await this.#mark(null) // Durable before a write is taken: a mark that came back would refuse flushed ones.
    this.#syncs.mended()
    this.#services.log('warn', { disk: this.name }, 'a failed sync was accepted: the disk takes writes again')
  }

  /** What the kernel dropped is known to the next start only by this. Over before the flush that failed is answered. */
  async #noteFailedSync(error: Error): Promise<void> {
    const { clock, log } = this.#services
    log('error', { disk: this.name, error: error.message }, 'a sync failed: the disk takes no more writes')
    const failedSync = { at: clock.date().toISOString(), message: error.message }
    try {
      await this.#mark(failedSync)
    } catch (cause) {
      const facts = { disk: this.name, error: (cause as Error).message }
      log('error', facts, 'the failed sync cannot be recorded: a daemon that starts again will not know of it')
    }
  }

  /** In its turn among the commits. */
  #mark(failedSync: DiskRecord['failedSync']): Promise<void> {
    const work = this.#commits.then(async () => {
      if (this.state !== 'owned' && this.state !== 'arriving') return
      await this.#services.records.commit([{ mark: 'disk', id: this.#record.id, failedSync }])
      this.#record = { ...this.#record, failedSync }
    })
    this.#commits = work.catch(() => {})
    return work
  }

  // ---- for the migration: the source's side

  /** The disk's bytes, past the gate: for the destination, before and after switchover. */
  readForPeer(offset: number, target: Uint8Array): MaybePromise<void> {
    if (!this.#file) throw new Error(`the bytes of ${this.name} are not open: ${this.trouble ?? this.state}`)
    return this.#file.read(offset, target)
  }

  extentsForPeer(offset: number, lengthBytes: number, limit: number): FileExtent[] {
    if (!this.#file) throw new Error(`the bytes of ${this.name} are not open: ${this.trouble ?? this.state}`)
    return this.#file.extents(offset, lengthBytes, limit)
  }

  /** Commits the disk's move to `state` with `facts`, together with `others`, and swaps the guest's I/O. */
  async move(state: DiskState, facts: Partial<DiskRecord>, others: readonly Change[] = []): Promise<void> {
    await this.#commit((record) => moved(record, state, facts), others)
    if (state === 'released' || state === 'gone' || state === 'superseded') {
      const [file, log] = [this.#file, this.#mapLog]
      this.#file = undefined
      this.#mapLog = undefined
      await log?.close()
      await file?.close()
    }
  }

  /** departed → owned, under a generation of its own: the site that had the disk is lost for good. */
  async reclaim(generation: number, others: readonly Change[]): Promise<void> {
    assert(this.state === 'departed')
    if (this.#isFileReadOnly && !this.#services.readOnly) {
      // Its locks would keep the second descriptor out.
      await this.#file?.close()
      this.#file = undefined
      this.#file = await this.#openFile(false)
      this.#isFileReadOnly = false
    }
    const facts = { generation, owner: this.#services.siteId, migrationId: null, taken: false }
    await this.move('owned', facts, others)
  }

  /** Commits facts that are no move. */
  async note(
    facts: Partial<Omit<DiskRecord, 'id' | 'state' | 'generation'>>,
    others: readonly Change[] = [],
  ): Promise<void> {
    await this.#commit((record) => ({ ...record, ...facts }), others)
  }

  // ---- for the migration: the destination's side

  /** incoming → arriving: this site owns `generation`, and nothing is here yet. Durable before the first guest write is answered. */
  async beginArriving(generation: number, others: readonly Change[]): Promise<void> {
    const { files } = this.#services
    assert(this.state === 'incoming')
    // The log is made first: an arriving disk always has one. Should the commit fail, the next attempt makes it anew.
    const { log, maps } = await MapLog.create(files, this.#mapLogPath, { ...this.#mapIdentity, generation })
    const before = this.#mapLog
    this.#mapLog = log
    this.#arrival = new Arrival(maps, log, this.sizeBytes)
    await before?.close()
    await this.move('arriving', { generation, owner: this.#services.siteId }, others)
  }

  /** Writes bytes that came where they are still missing. Resolves to how many bytes landed. */
  async land(piece: Piece): Promise<number> {
    const file = this.#file
    if (!file) throw new StoreError('closed', `disk ${this.name} is closed: nothing lands on it`)
    assert(this.#arrival)
    const claim = this.#arrival.claimMissing(this.#wholeBlocks(piece))
    if (!claim) return 0
    const dataBytes = piece.bytes ? claim.bytes : 0 // Zeros cost nothing to have sent again.
    this.#landingBytes += dataBytes
    try {
      for (const part of claim.parts) {
        const from = part.offset - piece.offset
        if (piece.bytes) await file.write(part.offset, piece.bytes.subarray(from, from + part.length))
        else await zeroFile(file, part.offset, part.length, { allocated: false })
      }
      claim.done()
    } finally {
      this.#landingBytes -= dataBytes
      claim.release()
    }
    if (dataBytes > 0) this.#landedBytes(dataBytes)
    return claim.bytes
  }

  /** What landed is made durable every so often, whoever had it fetched (promise 8). */
  #landedBytes(bytes: number): void {
    this.#unsavedBytes += bytes
    if (this.#unsavedBytes < saveEveryBytes || this.#isSaving) return
    this.#isSaving = true
    const over = () => {
      this.#isSaving = false
    }
    this.flush().then(over, over) // A failed sync is kept, and told, by the sync group.
  }

  /** incoming → gone, or, when it was coming back, what it was before. */
  async abandonIncoming(others: readonly Change[]): Promise<void> {
    const { before, path } = this.#record
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
    assert(this.#arrival && this.#arrival.missingBlocks === 0)
    await this.flush()
    await this.move('owned', {}, others)
    this.#arrival.retire()
    const log = this.#mapLog
    this.#mapLog = undefined
    await this.flush() // A sync that had begun with the log is over after this one.
    await this.#dropOldBytes().catch(() => {}) // The next start tries again.
    await log?.discard().catch(() => {}) // A log that stays is of this generation, and nothing reads it any more.
  }

  /** Removes the bytes of a disk that another site has wholly, or that never were the only ones. */
  async discardBytes(): Promise<void> {
    assert(this.state === 'released' || this.state === 'gone' || this.state === 'superseded')
    await this.#services.files.remove(this.#record.path)
  }

  /** Owned again: the bytes of the last time are of no more use. A file that is not in our folder is the operator's. */
  async #dropOldBytes(): Promise<void> {
    const { before, folder } = this.#record
    if (!before) return
    if (before.path.startsWith(`${folder}/`)) await this.#services.files.remove(before.path)
    await this.note({ before: null })
  }

  async close(): Promise<void> {
    const { failure } = this.#syncs
    if (failure && !this.#record.failedSync) await this.#noteFailedSync(failure) // Once more.
    this.#closed.abort(new Error(`disk ${this.name} is closing`))
    this.#io = new RefusedIo(`disk ${this.name} is closed`)
    await this.#mapLog?.close()
    await this.#file?.close()
    this.#file = undefined
    this.#mapLog = undefined
  }

  /** One commit of the record at a time: each builds on the one before. */
  #commit(next: (record: DiskRecord) => DiskRecord, others: readonly Change[]): Promise<void> {
    const work = this.#commits.then(async () => {
      const record = next(this.#record)
      await this.#services.records.commit([{ put: 'disk', record }, ...others])
      const before = this.#record.state
      this.#record = record
      if (record.state !== before) this.#chooseIo() // In the same step: state and I/O never disagree.
    })
    this.#commits = work.catch(() => {})
    return work
  }

  #chooseIo(): void {
    this.#io = this.#ioOfState()
  }

  #ioOfState(): GuestIo {
    const { state } = this
    if (state === 'owned') {
      assert(this.#file)
      return new OwnedIo(this.#file, this.#syncs)
    }
    if (state === 'incoming') {
      assert(this.#remote)
      return new IncomingIo(this.#remote, this.sizeBytes, () => this.#io)
    }
    if (state === 'arriving') {
      assert(this.#file && this.#arrival && this.#remote)
      const demand = new DemandFetch(
        this.#arrival,
        this.#remote.frozen,
        (piece) => this.land(piece),
        this.#closed.signal,
      )
      return new ArrivingIo(this.#file, this.#syncs, this.#arrival, demand)
    }
    return new RefusedIo(
      `disk ${this.name} is ${state} here: generation ${this.#record.generation} is served by ${this.#record.owner}`,
    )
  }

  /** An incoming disk has no bytes to lose: a file that a try left unmade is made now. */
  async #openFile(readOnly: boolean): Promise<BlockFile> {
    const { files } = this.#services
    const { path, sizeBytes } = this.#record
    try {
      return await files.openBlockFile(path, readOnly)
    } catch (error) {
      if (this.state !== 'incoming' || (error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      return files.createBlockFile(path, sizeBytes)
    }
  }

  async #openMaps(): Promise<void> {
    const file = this.#file
    assert(file)
    const identity = { ...this.#mapIdentity, generation: this.#record.generation }
    // After a failed sync also what an older commit covers, and a guest wrote again since, may have been dropped.
    const everything = [{ first: 0, end: Math.ceil(this.sizeBytes / blockSizeBytes) }]
    const { log, maps } = await MapLog.open(this.#services.files, this.#mapLogPath, identity, async (uncommitted) => {
      for (const run of this.#record.failedSync ? everything : uncommitted) {
        const offset = run.first * blockSizeBytes
        await rewrite(file, offset, Math.min(run.end * blockSizeBytes, this.sizeBytes) - offset)
      }
      await file.sync()
    })
    this.#mapLog = log
    this.#arrival = new Arrival(maps, log, this.sizeBytes)
  }

  /** Bytes, then the bits that speak of them: the position is taken before the sync begins (promises 4 and 6). */
  async #syncAll(): Promise<void> {
    if (!this.#file) throw new StoreError('closed', `disk ${this.name} is closed: nothing of it can be synced`)
    const log = this.#mapLog
    const position = log?.position ?? 0
    const saved = this.#unsavedBytes
    await this.#file.sync()
    await log?.commit(position)
    this.#unsavedBytes -= saved
  }

  /** Pieces are aligned to blocks, but for the disk's end. */
  #wholeBlocks(piece: Piece): Span {
    const end = piece.offset + piece.length
    assert(piece.offset % blockSizeBytes === 0 && (end % blockSizeBytes === 0 || end === this.sizeBytes))
    return spanOf(piece.offset, piece.length)
  }

  get #mapLogPath(): string {
    return join(this.#record.folder, mapLogName)
  }

  get #mapIdentity(): { diskId: string; sizeBytes: number } {
    return { diskId: this.#record.id, sizeBytes: this.sizeBytes }
  }
}
