// The durable maps of an arriving disk: which blocks are present, which the guest wrote, which sectors of a partial block
// it wrote. An append-only log of fixed records behind a header, replaced by a snapshot when it is opened or grows long.
//
// What always holds:
// - A record is appended after the bytes that it speaks of are with the kernel. So under the same boot id (the process
//   died, the kernel did not) every intact record is true.
// - A `commit` record names how many records before it speak of bytes that were synced before it was appended. Under
//   another boot id (the power went) only these are true. What is not believed is fetched again; nothing reads as zeros.
// - Each record's checksum covers its place in the log and the log's own random id; reading ends at the first that fails.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { BlockMap, type BlockRun, blockSizeBytes } from './block-map.ts'
import type { Files, LogFile } from './files.ts'
import { StoreError } from './store-error.ts'

export const sectorBytes = 512
const headerBytes = 128
const recordBytes = 24
const magic = Buffer.from('VMSTMAPS')
const formatVersion = 1
const lostPowerFlag = 1
/** A record counts at most this many blocks (8 TiB). */
const maxRunBlocks = 2 ** 31

/** Record types. `tentative` (blocks copied before switchover, of one epoch) is part of the format for hybrid copy. */
const RecordType = { landed: 1, written: 2, partial: 3, commit: 4, tentative: 5, forgotten: 6 } as const

export interface MapIdentity {
  readonly diskId: string
  readonly generation: number
  readonly sizeBytes: number
}

/** The maps in memory. A partial block is not present; its mask has a bit for each guest-written sector of 512 bytes. */
export class ArrivalMaps {
  readonly present: BlockMap
  readonly written: BlockMap
  readonly partial = new Map<number, number>()
  /**
   * The power was lost while the disk arrived: which present blocks the guest wrote is not known any more (bytes may have
   * reached the platter whose record did not), so that all count as written, and a comparison with the source says less.
   */
  lostPower = false

  constructor(sizeBytes: number) {
    const blocks = Math.ceil(sizeBytes / blockSizeBytes)
    this.present = new BlockMap(blocks)
    this.written = new BlockMap(blocks)
  }
}

export class MapLog {
  readonly #files: Files
  readonly #path: string
  #file: LogFile
  readonly #key: number
  /** Records in the log, and how many of them the last durable commit covers. */
  #records: number
  #covered: number

  private constructor(files: Files, path: string, file: LogFile, key: number, records: number) {
    this.#files = files
    this.#path = path
    this.#file = file
    this.#key = key
    this.#records = records
    this.#covered = records
  }

  /** A new log for a disk of which nothing is here. Durable when it resolves. */
  static async create(files: Files, path: string, identity: MapIdentity): Promise<{ log: MapLog; maps: ArrivalMaps }> {
    const maps = new ArrivalMaps(identity.sizeBytes)
    return { log: await MapLog.#snapshot(files, path, identity, maps), maps }
  }

  /**
   * The maps as they may be believed, and a fresh log that starts with them.
   * `settle` makes the bytes of believed blocks durable: a snapshot commits what it holds. It is given the blocks that no
   * commit covers: should a sync of them have failed, the kernel has dropped them, and the next would say nothing of it.
   * The log was durable before the disk was `arriving`: that it is missing, or of another disk, is damage.
   * @throws StoreError `newer-format`, `damaged`
   */
  static async open(
    files: Files,
    path: string,
    identity: MapIdentity,
    settle: (uncommitted: Iterable<BlockRun>) => Promise<void>,
  ): Promise<{ log: MapLog; maps: ArrivalMaps }> {
    const maps = new ArrivalMaps(identity.sizeBytes)
    const bytes = await files.readFile(path)
    if (!bytes) throw damaged(path, 'it is missing')
    const uncommitted = replay(bytes, identity, files.bootId, path, maps)
    await settle(uncommitted.runs(0, uncommitted.blocks, true)) // Bytes before bit: the snapshot below says that these blocks are durable.
    return { log: await MapLog.#snapshot(files, path, identity, maps), maps }
  }

  static async #snapshot(files: Files, path: string, identity: MapIdentity, maps: ArrivalMaps): Promise<MapLog> {
    const key = randomBytes(4).readUInt32LE()
    const parts = [encodeHeader(identity, files.bootId, key, maps.lostPower)]
    let records = 0
    const put = (type: number, first: number, count: number, mask = 0) => {
      parts.push(encodeRecord(key, records++, type, first, count, mask))
    }
    const putMap = (type: number, map: BlockMap) => {
      for (const run of map.runs(0, map.blocks, true)) {
        for (let at = run.first; at < run.end; at += maxRunBlocks) put(type, at, Math.min(maxRunBlocks, run.end - at))
      }
    }
    putMap(RecordType.landed, maps.present)
    putMap(RecordType.written, maps.written)
    for (const [block, mask] of maps.partial) put(RecordType.partial, block, 1, mask)
    put(RecordType.commit, records, 0)
    const file = await files.replaceLog(path, Buffer.concat(parts))
    return new MapLog(files, path, file, key, records)
  }

  /** The number of records so far: what a commit may cover once the bytes they speak of are synced. */
  get position(): number {
    return this.#records
  }

  /** Whether records exist that no durable commit covers. */
  get hasUncommitted(): boolean {
    return this.#records > this.#covered
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

  /** Makes the records before `position` durable and committed. The bytes that they speak of must be durable already. */
  async commit(position: number): Promise<void> {
    assert(position <= this.#records)
    if (position <= this.#covered) return
    this.#append(RecordType.commit, position, 0, 0)
    const withCommit = this.#records
    await this.#file.sync()
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

// Header, little-endian: magic 8 | version u32 | key u32 | size u64 | generation u64 | disk id 36 ASCII | boot id 36 ASCII |
// flags u32 | … zero … | crc32 u32 of the bytes before.
function encodeHeader(identity: MapIdentity, bootId: string, key: number, lostPower: boolean): Buffer {
  const header = Buffer.alloc(headerBytes)
  magic.copy(header, 0)
  header.writeUInt32LE(formatVersion, 8)
  header.writeUInt32LE(key, 12)
  header.writeBigUInt64LE(BigInt(identity.sizeBytes), 16)
  header.writeBigUInt64LE(BigInt(identity.generation), 24)
  header.write(identity.diskId, 32, 36, 'ascii')
  header.write(bootId, 68, 36, 'ascii')
  header.writeUInt32LE(lostPower ? lostPowerFlag : 0, 104)
  header.writeUInt32LE(crc32(header.subarray(0, headerBytes - 4)), headerBytes - 4)
  return header
}

// Record, little-endian: type u8 | mask u8 | zero u16 | count u32 | first u64 | key u32 | crc32 u32, where the checksum
// starts from the record's index, so that a record is true in its own place only.
function encodeRecord(key: number, index: number, type: number, first: number, count: number, mask: number): Buffer {
  const record = Buffer.alloc(recordBytes)
  record[0] = type
  record[1] = mask
  record.writeUInt32LE(count, 4)
  record.writeBigUInt64LE(BigInt(first), 8)
  record.writeUInt32LE(key, 16)
  record.writeUInt32LE(crc32(record.subarray(0, recordBytes - 4), index >>> 0), recordBytes - 4)
  return record
}

interface MapRecord {
  readonly type: number
  readonly mask: number
  readonly first: number
  readonly count: number
}

function decodeRecord(record: Buffer, key: number, index: number): MapRecord | undefined {
  if (record.readUInt32LE(16) !== key) return undefined
  if (record.readUInt32LE(recordBytes - 4) !== crc32(record.subarray(0, recordBytes - 4), index >>> 0)) return undefined
  return { type: record[0]!, mask: record[1]!, count: record.readUInt32LE(4), first: Number(record.readBigUInt64LE(8)) }
}

interface MapHeader {
  readonly key: number
  readonly bootId: string
  readonly lostPower: boolean
}

/** Reads a log's header. @throws StoreError `newer-format`, `damaged` */
function decodeHeader(bytes: Buffer, identity: MapIdentity, path: string): MapHeader {
  if (bytes.length < headerBytes || !bytes.subarray(0, 8).equals(magic)) throw damaged(path, 'it does not begin as one')
  const version = bytes.readUInt32LE(8)
  if (version > formatVersion) {
    throw new StoreError('newer-format', `${path} has format ${version}; this vmstore knows up to ${formatVersion}`, {
      next: 'Use the newer vmstore that wrote it.',
    })
  }
  if (bytes.readUInt32LE(headerBytes - 4) !== crc32(bytes.subarray(0, headerBytes - 4))) {
    throw damaged(path, 'the checksum of its header is wrong')
  }
  const sameDisk = bytes.toString('ascii', 32, 68) === identity.diskId
  const sameGeneration = Number(bytes.readBigUInt64LE(24)) === identity.generation
  const sameSize = Number(bytes.readBigUInt64LE(16)) === identity.sizeBytes
  if (!sameDisk || !sameGeneration || !sameSize) throw damaged(path, 'it is of another disk, generation or size')
  const lostPower = (bytes.readUInt32LE(104) & lostPowerFlag) !== 0
  return { key: bytes.readUInt32LE(12), bootId: bytes.toString('ascii', 68, 104), lostPower }
}

/** What the guest wrote here is known by this log alone: without it nothing may be fetched over it. */
function damaged(path: string, why: string): StoreError {
  return new StoreError('damaged', `${path} is not the map of what is here: ${why}`, {
    next: 'Restore it, or the data folder, from a good copy. The disk is kept as it is, and served to nobody.',
  })
}

/**
 * Applies what may be believed. Under the same boot id nothing of the log can be lost, so that a record that does not
 * fit is damage; under another, reading ends at the first that was not written whole. Returns the blocks that believed
 * records speak of and no commit covers.
 */
function replay(content: Uint8Array, identity: MapIdentity, bootId: string, path: string, maps: ArrivalMaps): BlockMap {
  const bytes = Buffer.from(content.buffer, content.byteOffset, content.byteLength)
  const header = decodeHeader(bytes, identity, path)
  const sameBoot = header.bootId === bootId
  const whole = Math.floor((bytes.length - headerBytes) / recordBytes)
  let intact = 0
  let committed = 0
  for (; intact < whole; intact++) {
    const record = recordAt(bytes, header.key, intact)
    if (!record) break
    if (record.type === RecordType.commit && record.first <= intact) committed = record.first
  }
  if (sameBoot && intact < whole) throw damaged(path, `its record ${intact} is not intact`)
  const believed = sameBoot ? intact : committed
  const uncommitted = new BlockMap(maps.present.blocks)
  for (let index = 0; index < believed; index++) {
    const record = recordAt(bytes, header.key, index)!
    applyRecord(record, maps)
    if (index >= committed) addBlocks(uncommitted, record)
  }
  maps.lostPower = header.lostPower || !sameBoot
  if (sameBoot) return uncommitted
  for (const run of maps.present.runs(0, maps.present.blocks, true)) maps.written.add(run.first, run.end)
  return uncommitted
}

/** The blocks whose bytes a record says to be here. */
function addBlocks(blocks: BlockMap, { type, first, count }: MapRecord): void {
  if (type === RecordType.commit || type === RecordType.forgotten || first + count > blocks.blocks) return
  blocks.add(first, first + count)
}

function recordAt(bytes: Buffer, key: number, index: number): MapRecord | undefined {
  const at = headerBytes + index * recordBytes
  return decodeRecord(bytes.subarray(at, at + recordBytes), key, index)
}

function applyRecord(record: MapRecord, maps: ArrivalMaps): void {
  const { first, count } = record
  if (record.type === RecordType.commit) return
  if (first + count > maps.present.blocks) return // Not of this disk: believe nothing of it.
  if (record.type === RecordType.forgotten) {
    maps.present.delete(first, first + count)
  } else if (record.type === RecordType.landed || record.type === RecordType.written) {
    maps.present.add(first, first + count)
    if (record.type === RecordType.written) maps.written.add(first, first + count)
    settlePartial(maps, first, first + count)
  } else if (record.type === RecordType.partial && !maps.present.has(first)) {
    maps.partial.set(first, (maps.partial.get(first) ?? 0) | record.mask)
  }
}

/** Partial blocks that are present now: the guest wrote a part of them. Walks the run or the partial blocks, whichever is less. */
function settlePartial({ partial, written }: ArrivalMaps, first: number, end: number): void {
  const settle = (block: number) => {
    if (partial.delete(block)) written.add(block, block + 1)
  }
  if (end - first < partial.size) {
    for (let block = first; block < end; block++) settle(block)
  } else {
    for (const block of partial.keys()) if (block >= first && block < end) settle(block)
  }
}
