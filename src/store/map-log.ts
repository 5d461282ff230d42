// The durable maps of an arriving disk: which blocks are present, which the guest wrote, which sectors of a partial block
// it wrote. An append-only log of fixed records behind a header, replaced by a snapshot when it is opened or grows long.
//
// What always holds:
// - A record is appended after the bytes that it speaks of are with the kernel. So under the same boot id (the process
//   died, the kernel did not) every intact record is true.
// - A `commit` record names how many records before it speak of bytes that were synced before it was appended. Under
//   another boot id (the power went) only these are true. What is not believed is fetched again; nothing reads as zeros.
// - Each record's checksum covers its place in the log and the log's own random id; reading ends at the first that fails.
// - A log that was damaged, or cut, where it was durable once is refused: what it has lost of a guest's writes is not fetched
//   over. The site's records know how far it was durable (`mark`), its header how long it was when it was made.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { Span } from '../block/span.ts'
import { ArrivalMaps } from './arrival-maps.ts'
import type { Files, LogFile } from './files.ts'
import { damaged, encodeHeader, encodeRecord, type MapIdentity, type MapLogMark, RecordType } from './map-log-format.ts'
import { replay } from './map-log-replay.ts'
import { snapshotOf } from './map-log-snapshot.ts'

export class MapLog {
  readonly #files: Files
  readonly #path: string
  #file: LogFile
  readonly #key: number
  /** Records in the log, and how many of them the last durable commit covers. */
  #records: number
  #covered: number
  #round: number

  private constructor(files: Files, path: string, file: LogFile, key: number, records: number, round: number) {
    this.#files = files
    this.#path = path
    this.#file = file
    this.#key = key
    this.#records = records
    this.#covered = records
    this.#round = round
  }

  /** A new log, for a disk of which nothing is here but what `maps` say: that is durable already. Durable when it resolves. */
  static async create(
    files: Files,
    path: string,
    identity: MapIdentity,
    maps = new ArrivalMaps(identity.sizeBytes),
  ): Promise<{ log: MapLog; maps: ArrivalMaps }> {
    return { log: await MapLog.#snapshot(files, path, identity, maps), maps }
  }

  /**
   * The maps as they may be believed, and a fresh log that starts with them.
   * `settle` makes the bytes of believed blocks durable: a snapshot commits what it holds. It is given the blocks that no
   * commit covers: should a sync of them have failed, the kernel has dropped them, and the next would say nothing of it.
   * The log was durable before the disk was `arriving`: that it is missing, or of another disk, or shorter than `mark`, is
   * damage.
   * @throws StoreError `newer-format`, `damaged`
   */
  static async open(
    files: Files,
    path: string,
    identity: MapIdentity,
    settle: (uncommitted: Iterable<Span>) => Promise<void>,
    mark: MapLogMark | null = null,
  ): Promise<{ log: MapLog; maps: ArrivalMaps }> {
    const maps = new ArrivalMaps(identity.sizeBytes)
    const bytes = await files.readFile(path)
    if (!bytes) throw damaged(path, 'it is missing')
    const { uncommitted, round } = replay(bytes, identity, files.bootId, path, maps, mark)
    await settle(uncommitted.runs(0, uncommitted.blocks, true)) // Bytes before bit: the snapshot below says that these blocks are durable.
    return { log: await MapLog.#snapshot(files, path, identity, maps, round), maps }
  }

  static async #snapshot(
    files: Files,
    path: string,
    identity: MapIdentity,
    maps: ArrivalMaps,
    round = 0,
  ): Promise<MapLog> {
    const key = randomBytes(4).readUInt32LE()
    const { bytes, records, hasPages } = snapshotOf(key, maps, round)
    const header = encodeHeader(identity, files.bootId, key, maps.lostPower, records, hasPages)
    const file = await files.replaceLog(path, Buffer.concat([header, bytes]))
    return new MapLog(files, path, file, key, records, round)
  }

  /** The number of records so far: what a commit may cover once the bytes they speak of are synced. */
  get position(): number {
    return this.#records
  }

  /** How far it is durable now: to be put on record elsewhere, so that damage is told from a lost power. */
  get mark(): MapLogMark {
    return { key: this.#key, records: this.#covered }
  }

  landed(first: number, count: number): void {
    this.#append(RecordType.landed, first, count, 0)
  }

  written(first: number, count: number): void {
    this.#append(RecordType.written, first, count, 0)
  }

  partial(block: number, mask: number): void {
    this.#append(RecordType.partial, block, 1, mask)
  }

  /** Blocks that are missing again. */
  forgotten(first: number, count: number): void {
    this.#append(RecordType.forgotten, first, count, 0)
  }

  /** Of tentative blocks: the round up to which all that was given out of their epoch is durable here; 0: none. */
  get round(): number {
    return this.#round
  }

  /** Makes the records before `position` durable and committed. The bytes that they speak of must be durable already. */
  async commit(position: number, round = this.#round): Promise<void> {
    assert(position <= this.#records)
    if (position <= this.#covered && round <= this.#round) return
    this.#append(RecordType.commit, position, round, 0)
    const withCommit = this.#records
    await this.#file.sync()
    this.#round = Math.max(this.#round, round)
    // Nothing came after the commit record but it: then the log holds nothing uncommitted.
    this.#covered = Math.max(this.#covered, withCommit === position + 1 ? withCommit : position)
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  /** Closes the log and removes it. */
  async discard(): Promise<void> {
    await this.#file.close()
    await this.#files.remove(this.#path)
  }

  #append(type: number, first: number, count: number, mask: number): void {
    this.#file.append(encodeRecord(this.#key, this.#records, type, first, count, mask))
    this.#records++
  }
}
