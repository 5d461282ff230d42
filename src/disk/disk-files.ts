// What one disk has open: its block file, and, while it arrives, the log of its maps with what it knows (arrival/).
//
// What always holds:
// - A sync makes bytes durable, then the bits that speak of them (promises 4 and 6).
// - An arriving disk has a log. What a daemon that ended left in it is believed only after the bytes that it speaks of were
//   written anew, where a sync of them may have failed, and synced.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { blockSizeBytes } from '../block/block-map.ts'
import type { Span } from '../block/span.ts'
import type { BlockFile, Files } from '../store/files.ts'
import { MapLog } from '../store/map-log.ts'
import type { MapIdentity, MapLogMark } from '../store/map-log-format.ts'
import type { DiskRecord } from '../store/records.ts'
import { StoreError } from '../store/store-error.ts'
import { Arrival } from './arrival/arrival.ts'
import { rewrite } from './sync/rewrite.ts'

export const mapLogName = 'maps.log'

export class DiskFiles {
  readonly #files: Files
  readonly #name: string
  #file: BlockFile | undefined
  #isReadOnly = false
  #log: MapLog | undefined
  #arrival: Arrival | undefined

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

  /** Maps of `generation` that say that nothing is here. Durable when it resolves. */
  async makeMaps(record: DiskRecord, generation: number): Promise<void> {
    const { log, maps } = await MapLog.create(this.#files, mapLogPath(record), identityOf(record, generation))
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
    const settle = async (uncommitted: Iterable<Span>) => {
      for (const run of failedSync ? everything : uncommitted) {
        const offset = run.first * blockSizeBytes
        await rewrite(file, offset, Math.min(run.end * blockSizeBytes, sizeBytes) - offset)
      }
      await file.sync()
    }
    const { log, maps } = await MapLog.open(this.#files, mapLogPath(record), identity, settle, record.mapLog)
    this.#log = log
    this.#arrival = new Arrival(maps, log, sizeBytes)
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
    const [file, log] = [this.#file, this.#log]
    this.#file = undefined
    this.#log = undefined
    try {
      await log?.close()
    } finally {
      await file?.close() // The locks on it too.
    }
  }
}

function mapLogPath({ folder }: DiskRecord): string {
  return join(folder, mapLogName)
}

function identityOf({ id, sizeBytes }: DiskRecord, generation: number): MapIdentity {
  return { diskId: id, sizeBytes, generation }
}
