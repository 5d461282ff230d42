// What one disk has open: its block file, and, while it arrives, the log of its maps with what it knows (arrival/).
//
// What always holds:
// - A sync makes bytes durable, then the bits that speak of them (promises 4 and 6).
// - What was copied ahead of switchover has a log of its own, for as long as the disk is incoming (arrival/tentative.ts).
// - An arriving disk has a log. What a daemon that ended left in it is believed only after the bytes that it speaks of were
//   written anew, where a sync of them may have failed, and synced.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { blockSizeBytes } from '../block/block-map.ts'
import type { Span } from '../block/span.ts'
import type { ArrivalMaps } from '../store/arrival-maps.ts'
import { type BlockFile, FailedSync, type Files } from '../store/files.ts'
import { MapLog } from '../store/map-log.ts'
import type { MapIdentity, MapLogMark } from '../store/map-log-format.ts'
import type { DiskRecord } from '../store/records.ts'
import { StoreError } from '../store/store-error.ts'
import { Arrival } from './arrival/arrival.ts'
import { Tentative } from './arrival/tentative.ts'
import { rewrite } from './sync/rewrite.ts'

export const mapLogName = 'maps.log'
const tentativeLogName = 'tentative.log'

export class DiskFiles {
  readonly #files: Files
  readonly #name: string
  #file: BlockFile | undefined
  #isReadOnly = false
  #log: MapLog | undefined
  #arrival: Arrival | undefined
  #tentative: Tentative | undefined

  constructor(files: Files, name: string) {
    this.#files = files
    this.#name = name
  }

  /** The block file; undefined: it is not open. */
  get block(): BlockFile | undefined {
    return this.#file
  }

  /** Of a disk that arrives, or has arrived since it was opened. */
  get arrival(): Arrival | undefined {
    return this.#arrival
  }

  /** Of a disk that is incoming, or was since it was opened: what was copied ahead of switchover. */
  get tentative(): Tentative | undefined {
    return this.#tentative
  }

  /** Opens the block file. @throws StoreError `damaged`: it has another size than is recorded */
  async open(record: DiskRecord, readOnly: boolean): Promise<void> {
    const { path, sizeBytes } = record
    this.#file = await this.#openOrMake(record, readOnly)
    this.#isReadOnly = readOnly
    if (this.#file.sizeBytes === sizeBytes) return
    throw new StoreError('damaged', `${path} has ${this.#file.sizeBytes} bytes, not ${sizeBytes} as recorded`)
  }

  /** An incoming disk has no bytes to lose: a file that a try left unmade is made now. */
  async #openOrMake({ path, sizeBytes, state }: DiskRecord, readOnly: boolean): Promise<BlockFile> {
    try {
      return await this.#files.openBlockFile(path, readOnly)
    } catch (error) {
      if (state !== 'incoming' || (error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      return this.#files.createBlockFile(path, sizeBytes)
    }
  }

  /** Opens the block file for writing too, if it was open for reading only. */
  async reopenForWriting(record: DiskRecord): Promise<void> {
    if (!this.#isReadOnly) return
    await this.#file?.close() // Its locks would keep the second descriptor out.
    this.#file = undefined
    this.#file = await this.#openOrMake(record, false)
    this.#isReadOnly = false
  }

  /** Maps of `generation` that say that nothing is here but what `present` says, which is durable. Durable when it resolves. */
  async makeMaps(record: DiskRecord, generation: number, present?: ArrivalMaps): Promise<void> {
    const { log, maps } = await MapLog.create(this.#files, mapLogPath(record), identityOf(record, generation), present)
    const before = this.#log
    this.#log = log
    this.#arrival = new Arrival(maps, log, record.sizeBytes)
    await before?.close()
  }

  /** The maps that a daemon that ended left. @throws StoreError `newer-format`, `damaged` */
  async openMaps(record: DiskRecord): Promise<void> {
    const file = this.#file
    assert(file)
    const { sizeBytes, failedSync, generation } = record
    const identity = identityOf(record, generation)
    // After a failed sync also what an older commit covers, and a guest wrote again since, may have been dropped.
    const everything = [{ first: 0, end: Math.ceil(sizeBytes / blockSizeBytes) }]
    const settle = (uncommitted: Iterable<Span>) => settled(file, failedSync ? everything : uncommitted)
    const { log, maps } = await MapLog.open(this.#files, mapLogPath(record), identity, settle, record.mapLog)
    this.#log = log
    this.#arrival = new Arrival(maps, log, sizeBytes)
  }

  /** Of a disk of which nothing is here tentatively: blocks of `epoch` may be from now on. Durable when it resolves. */
  async makeTentative(record: DiskRecord, epoch: string): Promise<void> {
    const before = this.#tentative
    this.#tentative = undefined
    await before?.seal()
    await before?.close()
    const path = tentativeLogPath(record)
    const { log, maps } = await MapLog.create(this.#files, path, { ...identityOf(record, record.generation), epoch })
    this.#tentative = new Tentative(epoch, log, maps.present, record.sizeBytes)
  }

  /** What a daemon that ended left of the epoch on record. What is missing or damaged is copied again: nobody wrote it here. */
  async openTentative(record: DiskRecord): Promise<void> {
    const file = this.#file
    assert(file)
    const { sizeBytes, generation, tentativeEpoch: epoch } = record
    if (epoch === null) return
    const identity = { ...identityOf(record, generation), epoch }
    const settle = (uncommitted: Iterable<Span>) => settled(file, uncommitted)
    try {
      const { log, maps } = await MapLog.open(this.#files, tentativeLogPath(record), identity, settle)
      this.#tentative = new Tentative(epoch, log, maps.present, sizeBytes)
    } catch (error) {
      if (!(error instanceof StoreError) && !(error instanceof FailedSync)) throw error
    }
  }

  /** What landed ahead of switchover before this call is durable: bytes, then the bits that speak of them. */
  async syncTentative(): Promise<void> {
    const [file, tentative] = [this.#file, this.#tentative]
    if (!file || !tentative) throw new StoreError('closed', `disk ${this.#name} is closed: nothing of it can be synced`)
    await tentative.saving(() => file.sync())
  }

  /** The disk is incoming no more. */
  async endTentative(record: DiskRecord): Promise<void> {
    const tentative = this.#tentative
    this.#tentative = undefined
    await tentative?.close()
    await this.#files.remove(tentativeLogPath(record))
  }

  /** How far the log of the maps is durable; null: there is none. */
  get mapLogMark(): MapLogMark | null {
    return this.#log?.mark ?? null
  }

  /** Every block is here: no sync that begins from now on knows the maps. Gives their log to whoever discards it. */
  endMaps(): MapLog | undefined {
    this.#arrival?.retire()
    const log = this.#log
    this.#log = undefined
    return log
  }

  /** Bytes, then the bits that speak of them: the position is taken before the sync begins. */
  async sync(): Promise<void> {
    if (!this.#file) throw new StoreError('closed', `disk ${this.#name} is closed: nothing of it can be synced`)
    const log = this.#log
    const position = log?.position ?? 0
    await this.#file.sync()
    await log?.commit(position)
  }

  async close(): Promise<void> {
    const [file, log, tentative] = [this.#file, this.#log, this.#tentative]
    this.#file = undefined
    this.#log = undefined
    this.#tentative = undefined
    try {
      await log?.close()
      await tentative?.close()
    } finally {
      await file?.close() // The locks on it too.
    }
  }
}

/** Written anew, for a sync of it may have failed, and synced. */
async function settled(file: BlockFile, spans: Iterable<Span>): Promise<void> {
  for (const run of spans) {
    const offset = run.first * blockSizeBytes
    await rewrite(file, offset, Math.min(run.end * blockSizeBytes, file.sizeBytes) - offset)
  }
  await file.sync()
}

function tentativeLogPath({ folder }: DiskRecord): string {
  return join(folder, tentativeLogName)
}

function mapLogPath({ folder }: DiskRecord): string {
  return join(folder, mapLogName)
}

function identityOf({ id, sizeBytes }: DiskRecord, generation: number): MapIdentity {
  return { diskId: id, sizeBytes, generation }
}
