// The disks of a site, and what its servers offer to guests.
//
// What always holds: names are unique among disks that are served or on their way. A disk is on record before it is opened
// and off it before its files go; where a commit failed, and may be durable all the same, files stay.

import assert from 'node:assert/strict'
import { basename, join } from 'node:path'
import type { ExportCatalog } from '../guest/export.ts'
import { type Change, type DiskRecord, untouchedDisk } from '../store/records.ts'
import type { StoreError } from '../store/store-error.ts'
import { Disk, type DiskServices } from './disk.ts'
import { diskNamePattern } from './disk-name.ts'
import { isOfAnotherKey, keyGoneSentence } from './key-gone.ts'
import { nearestText } from './nearest-name.ts'
import { Refusal } from './refusal.ts'
import type { RemotePart } from './remote-part.ts'

export interface DisksLayout {
  /** The folder of a disk that lives in the data folder. */
  diskFolder(id: string): string
  /** Where it is while it is made or removed: what a start finds there belongs to nobody. */
  passingFolder(id: string): string
}

export interface NewDisk {
  readonly id: string
  readonly name: string
  readonly sizeBytes: number
}

/** `deed`: that this site made it. */
export interface MadeDisk extends NewDisk {
  readonly deed: DiskRecord['deed']
}

/** `generation`: of `owner`, from whom it comes, with the deed `offered`. */
export interface IncomingDisk extends NewDisk {
  readonly offered: DiskRecord['offered']
  readonly generation: number
  readonly owner: string
  readonly migrationId: string
  readonly createdAt: string
}

export class Disks implements ExportCatalog {
  readonly #services: DiskServices
  readonly #layout: DisksLayout
  readonly #disks = new Map<string, Disk>()
  /** Names that are being made into disks at this moment. */
  readonly #claimedNames = new Set<string>()
  /** Disks whose removal is under way, by id. */
  readonly #removals = new Map<string, Promise<void>>()

  constructor(services: DiskServices, layout: DisksLayout) {
    this.#services = services
    this.#layout = layout
  }

  // ---- ExportCatalog

  list(): readonly string[] {
    return this.all()
      .filter((disk) => disk.isListed)
      .map((disk) => disk.name)
  }

  /**
   * The only disk is the default export too; beside it, what comes here counts for none, so that no peer takes that name from it. A disk served where it lies is found under its file's name as well.
   */
  find(name: string): Disk | undefined {
    const served = this.all().filter((disk) => disk.isServed)
    if (name === '') {
      const settled = served.filter(({ state }) => state !== 'incoming')
      const [only, other] = settled.length > 0 ? settled : served
      return other ? undefined : only
    }
    return served.find((disk) => disk.name === name) ?? served.find((disk) => fileNameOf(disk) === name)
  }

  // ---- the site's own view

  all(): readonly Disk[] {
    return [...this.#disks.values()]
  }

  /** Of disks that are no disks yet. */
  get namesInMaking(): readonly string[] {
    return [...this.#claimedNames]
  }

  get(id: string): Disk | undefined {
    return this.#disks.get(id)
  }

  /** By name, id or file name. @throws Refusal `disk-unknown` */
  named(name: string): Disk {
    const found =
      this.#disks.get(name) ??
      this.all().find((disk) => disk.name === name) ??
      this.all().find((disk) => fileNameOf(disk) === name)
    if (found) return found
    throw new Refusal('disk-unknown', `there is no disk ${name} here`, {
      disk: name,
      toPeer: `there is no disk ${name} there`,
      next: `${nearestText(
        name,
        this.all().map((disk) => disk.name),
      )}See the disks of this site: vmstore disk list.`,
    })
  }

  /**
   * Opens the disks of a site that starts, but for those on their way here, which need their migration. One disk that
   * cannot be opened does not keep the others from their guests: it is shown with its trouble. `own`: the fingerprint of this
   * site's key, without which none is served.
   */
  async takeUp(
    records: readonly DiskRecord[],
    report: (record: DiskRecord, error: unknown) => void,
    own: string,
  ): Promise<void> {
    for (const record of records) {
      if (isOfAnotherKey(record, own)) {
        const trouble = keyGoneSentence(record, own)
        this.#services.log(
          'error',
          { disk: record.name, reason: trouble },
          'the key of a disk is gone: it is not served',
        )
        this.#disks.set(record.id, Disk.unusable(this.#services, record, trouble, true))
        continue
      }
      if (record.state === 'incoming' || record.state === 'arriving') continue
      try {
        const disk = await this.open(record)
        if (record.state === 'owned' && !disk.readOnly) disk.reopened()
        if (record.state === 'gone') await this.remove(this.named(record.id)) // The daemon ended before it had.
      } catch (error) {
        report(record, error)
        this.addUnusable(record, `it cannot be opened: ${(error as Error).message}`)
      }
    }
  }

  /** Keeps a recorded disk that cannot be opened, so that it is shown and its name stays taken. */
  addUnusable(record: DiskRecord, trouble: string): void {
    this.#disks.set(record.id, Disk.unusable(this.#services, record, trouble))
  }

  /** No migration serves it any more, until the next start: nobody is served, and it is shown with why. */
  async setAside(record: DiskRecord, trouble: string): Promise<void> {
    const open = this.#disks.get(record.id)
    if (open?.isUnusable) return
    await open?.close()
    this.addUnusable(open?.record ?? record, trouble)
  }

  /** Opens a recorded disk. */
  async open(record: DiskRecord, remote?: RemotePart): Promise<Disk> {
    const disk = await Disk.open(this.#services, record, remote)
    this.#disks.get(record.id)?.comesBack(() => !this.#disks.get(record.id)?.isAnswered)
    this.#disks.set(record.id, disk)
    return disk
  }

  /** Holds a name while a disk of it is made. @throws Refusal `disk-exists` */
  claimName(name: string, id: string): Disposable {
    const other = this.all().find((disk) => disk.name === name && disk.record.id !== id)
    if (other || this.#claimedNames.has(name)) {
      const state = other ? ` (${other.state})` : ''
      throw new Refusal('disk-exists', `there is a disk ${name} here already${state}`, {
        disk: name,
        toPeer: `there is a disk ${name} there already`,
        safe: 'Nothing was changed.',
        next: 'Choose another name, or delete that disk.',
      })
    }
    this.#claimedNames.add(name)
    return { [Symbol.dispose]: () => this.#claimedNames.delete(name) }
  }

  /** An owned disk of holes, filled by `fill` before anybody sees it. Nothing is left when it throws. */
  async create(fresh: MadeDisk, createdAt: string, fill: (path: string) => Promise<void>): Promise<Disk> {
    using _name = this.claimName(fresh.name, fresh.id)
    const record = { ...this.#newRecord(fresh, 'owned', this.#services.siteId, 1, createdAt), deed: fresh.deed }
    const { files, records } = this.#services
    const passing = this.#layout.passingFolder(fresh.id)
    const path = join(passing, basename(record.path))
    try {
      await this.#makeFile({ ...record, path })
      await fill(path)
      await files.rename(passing, record.folder)
    } catch (error) {
      await files.remove(passing)
      throw error
    }
    await this.#commitNew(
      () => records.commit([{ put: 'disk', record }]),
      [{ remove: 'disk', id: record.id }],
      [record.folder],
    )
    return await this.open(record)
  }

  /** A commit that failed may be durable all the same: the files go only when the record is known to be gone. */
  async #commitNew(commit: () => Promise<void>, undo: readonly Change[], files: readonly string[]): Promise<void> {
    try {
      await commit()
    } catch (error) {
      const isUndone =
        (error as Partial<StoreError>).nothingRecorded ||
        (await this.#services.records.commit(undo).then(
          () => true,
          () => false,
        ))
      if (isUndone) for (const path of files) await this.#services.files.remove(path)
      throw error
    }
  }

  /** Records a raw image that lies elsewhere, and serves it there. */
  async adopt(fresh: MadeDisk, path: string, folder: string, createdAt: string): Promise<Disk> {
    using _name = this.claimName(fresh.name, fresh.id)
    const record = {
      ...this.#newRecord(fresh, 'owned', this.#services.siteId, 1, createdAt),
      path,
      folder,
      servedFile: path,
      deed: fresh.deed,
    }
    await this.#services.records.commit([{ put: 'disk', record }])
    return await this.open(record)
  }

  /**
   * Disks that are being moved here together from their owner, who has them in the generations named: in one transaction, with
   * `others`. Durable, and not opened yet.
   */
  async prepareIncoming(fresh: readonly IncomingDisk[], others: readonly Change[]): Promise<readonly DiskRecord[]> {
    // The same disk may be on its way out: its folder goes first, or it would take the new bytes with it.
    for (const { id } of fresh) await this.#removals.get(id)?.catch(() => {})
    const { files, records } = this.#services
    const coming = fresh.map((each) => this.#incomingRecord(each))
    const undo: Change[] = others.flatMap((change) =>
      'put' in change && change.put === 'migration' ? [{ remove: 'migration' as const, id: change.record.id }] : [],
    )
    for (const { id } of coming) {
      const before = this.#disks.get(id)
      undo.push(before ? { put: 'disk', record: before.record } : { remove: 'disk', id })
    }
    const made: string[] = []
    try {
      for (const record of coming) {
        await files.remove(record.path) // Of a try that was cut short.
        made.push(record.path)
        await this.#makeFile(record)
      }
    } catch (error) {
      for (const path of made) await files.remove(path).catch(() => {}) // The next try removes what is left.
      throw error
    }
    const puts = coming.map((record) => ({ put: 'disk' as const, record }))
    await this.#commitNew(() => records.commit([...puts, ...others]), undo, made)
    return coming
  }

  #incomingRecord(fresh: IncomingDisk): DiskRecord {
    const before = this.#disks.get(fresh.id)
    const made = this.#newRecord(fresh, 'incoming', fresh.owner, fresh.generation, fresh.createdAt)
    const { migrationId, offered } = fresh
    return { ...made, migrationId, offered, ...(before && returning(before.record, made, migrationId)) }
  }

  /** Removes a disk with its bytes, if they lie in the data folder; `others` in the same transaction. The caller has checked that it may go. */
  remove(disk: Disk, others: readonly Change[] = []): Promise<void> {
    const { id } = disk.record
    const underWay = this.#removals.get(id)
    if (underWay) return underWay
    if (this.#disks.get(id) !== disk) return Promise.resolve() // It is gone already, and the id may be another's.
    const removal = this.#remove(disk, others).finally(() => this.#removals.delete(id))
    this.#removals.set(id, removal)
    return removal
  }

  async #remove(disk: Disk, others: readonly Change[]): Promise<void> {
    const { id, folder } = disk.record
    await this.#services.records.commit([{ remove: 'disk', id }, ...others])
    this.#disks.delete(id)
    await disk.close()
    if (folder !== this.#layout.diskFolder(id)) return // A served file, and its folder, are the operator's.
    const passing = this.#layout.passingFolder(id)
    await this.#services.files.rename(folder, passing)
    await this.#services.files.remove(passing)
  }

  async close(): Promise<void> {
    await Promise.all(this.all().map((disk) => disk.close()))
  }

  async #makeFile(record: DiskRecord): Promise<void> {
    const file = await this.#services.files.createBlockFile(record.path, record.sizeBytes)
    await file.close()
  }

  #newRecord(
    fresh: NewDisk,
    state: DiskRecord['state'],
    owner: string,
    generation: number,
    createdAt: string,
  ): DiskRecord {
    const folder = this.#layout.diskFolder(fresh.id)
    const { id, name, sizeBytes } = fresh
    assert(diskNamePattern.test(name)) // It becomes a path.
    const path = join(folder, `${name}.raw`)
    return { ...untouchedDisk, id, name, path, folder, sizeBytes, state, generation, owner, createdAt }
  }
}

/**
 * Where a disk that comes back is put: in the data folder, with its old bytes kept until it is owned again. Each try has a
 * file of its own. An image that was served where it lies keeps its old bytes; the disk lives in the data folder from then on.
 */
function returning(before: DiskRecord, made: DiskRecord, migrationId: string): Partial<DiskRecord> {
  return {
    path: join(made.folder, `${made.name}.${migrationId}.raw`),
    servedFile: before.servedFile,
    before: { state: before.state, path: before.path },
    deed: before.deed,
  }
}

/** The name under which a disk is found besides its own. */
function fileNameOf(disk: Disk): string {
  return disk.record.servedFile === null ? `${disk.name}.raw` : basename(disk.record.servedFile)
}
