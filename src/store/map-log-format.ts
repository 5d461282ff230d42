// The bytes of a map log: a header, and fixed records behind it. Pure.
//
// What always holds: a record is intact in its own place of its own log only, for its checksum covers both. A header is
// believed after its checksum; magic and version are looked at before, because a newer header may be laid out otherwise.

import { hash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { segmentBlocks, segmentBytes } from '../block/block-map.ts'
import { StoreError } from './store-error.ts'

export const headerBytes = 128
export const recordBytes = 24
const magic = Buffer.from('VMSTMAPS')
/** Of a log that has pages; any other is of version 1, which an older vmstore reads. */
const formatVersion = 2
const lostPowerFlag = 1

/** Record types. `tentative` is not written: a log of tentative blocks is one of its own, whose header names their epoch. */
export const RecordType = { landed: 1, written: 2, partial: 3, commit: 4, tentative: 5, forgotten: 6, page: 7 } as const

/** The bits of a segment of which map: the mask of a page's record. */
export const PagedMap = { present: 0, written: 1 } as const

/** A page has the place of so many records: one that names it, and its bits behind that. */
export const pageRecords = 1 + Math.ceil(segmentBytes / recordBytes)

/** How far a log is known to be durable: what the records of the site say of it beside the log itself. */
export interface MapLogMark {
  /** The log's own id: another log has another. */
  readonly key: number
  /** Records from its beginning that are durable, and whose bytes are. */
  readonly records: number
}

export interface MapIdentity {
  readonly diskId: string
  readonly generation: number
  readonly sizeBytes: number
  /** Of tentative blocks: the epoch of the source's dirty map, with which alone they are true. */
  readonly epoch?: string
}

const epochAt = 112
const epochBytes = 12

// Header, little-endian: magic 8 | version u32 | key u32 | size u64 | generation u64 | disk id 36 ASCII | boot id 36 ASCII |
// flags u32 | records of the snapshot u32 | the first 12 bytes of the epoch's SHA-256, or zeros | crc32 u32 of the bytes before.
/** `snapshotRecords`: the log never has fewer, for it was durable with them before it took its place. */
export function encodeHeader(
  identity: MapIdentity,
  bootId: string,
  key: number,
  lostPower: boolean,
  snapshotRecords: number,
  hasPages = false,
): Buffer {
  const header = Buffer.alloc(headerBytes)
  magic.copy(header, 0)
  header.writeUInt32LE(hasPages ? formatVersion : 1, 8)
  header.writeUInt32LE(key, 12)
  header.writeBigUInt64LE(BigInt(identity.sizeBytes), 16)
  header.writeBigUInt64LE(BigInt(identity.generation), 24)
  header.write(identity.diskId, 32, 36, 'ascii')
  header.write(bootId, 68, 36, 'ascii')
  header.writeUInt32LE(lostPower ? lostPowerFlag : 0, 104)
  header.writeUInt32LE(snapshotRecords, 108)
  epochMark(identity).copy(header, epochAt)
  header.writeUInt32LE(crc32(header.subarray(0, headerBytes - 4)), headerBytes - 4)
  return header
}

function epochMark({ epoch }: MapIdentity): Buffer {
  return epoch === undefined ? Buffer.alloc(epochBytes) : hash('sha256', epoch, 'buffer').subarray(0, epochBytes)
}

// Record, little-endian: type u8 | mask u8 | zero u16 | count u32 | first u64 | key u32 | crc32 u32, where the checksum
// starts from the record's index, so that a record is true in its own place only.
export function encodeRecord(
  key: number,
  index: number,
  type: number,
  first: number,
  count: number,
  mask: number,
): Buffer {
  const record = Buffer.alloc(recordBytes)
  putRecord(record, 0, key, index, type, first, count, mask)
  return record
}

/** The same, into bytes that are zeros. */
export function putRecord(
  target: Buffer,
  at: number,
  key: number,
  index: number,
  type: number,
  first: number,
  count: number,
  mask: number,
): void {
  target[at] = type
  target[at + 1] = mask
  target.writeUInt32LE(count, at + 4)
  target.writeUInt32LE(first % 2 ** 32, at + 8)
  target.writeUInt32LE(Math.floor(first / 2 ** 32), at + 12)
  target.writeUInt32LE(key, at + 16)
  target.writeUInt32LE(crc32(target.subarray(at, at + recordBytes - 4), index >>> 0), at + recordBytes - 4)
}

/** A page: the bits of the segment that begins with block `first`. In its record the checksum of the bits is in the place of the count. */
export function encodePage(key: number, index: number, first: number, map: number, bits: Uint8Array): Buffer {
  const page = Buffer.alloc(pageRecords * recordBytes)
  putRecord(page, 0, key, index, RecordType.page, first, crc32(bits, index >>> 0), map)
  page.set(bits, recordBytes)
  return page
}

export interface MapRecord {
  readonly type: number
  readonly mask: number
  readonly first: number
  readonly count: number
  /** Of a page. */
  readonly bits?: Uint8Array
}

/** Of how many records it has the place. */
export function placesOf({ type }: MapRecord): number {
  return type === RecordType.page ? pageRecords : 1
}

/** The blocks that a record speaks of; the end of a page's segment may lie behind the end of the disk. */
export function spanOfRecord({ type, first, count }: MapRecord): { readonly first: number; readonly end: number } {
  return { first, end: first + (type === RecordType.page ? segmentBlocks : count) }
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
  /** 0 in a log that was made before headers had it. */
  readonly snapshotRecords: number
}

/** Reads a log's header. @throws StoreError `newer-format`, `damaged` */
export function decodeHeader(bytes: Buffer, identity: MapIdentity, path: string): MapHeader {
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
  const sameEpoch = bytes.subarray(epochAt, epochAt + epochBytes).equals(epochMark(identity))
  if (!sameEpoch) throw damaged(path, 'it is of another epoch')
  const lostPower = (bytes.readUInt32LE(104) & lostPowerFlag) !== 0
  return {
    key: bytes.readUInt32LE(12),
    bootId: bytes.toString('ascii', 68, 104),
    lostPower,
    snapshotRecords: bytes.readUInt32LE(108),
  }
}

/** What the guest wrote here is known by this log alone: without it nothing may be fetched over it. */
export function damaged(path: string, why: string): StoreError {
  return new StoreError('damaged', `${path} is not the map of what is here: ${why}`, {
    next: 'The disk is kept as it is, and served to nobody. Restore this file from a copy that is not older than its last use; or, if the destination is given up, take the disk back at its source (vmstore disk reclaim), which loses what was written here.',
  })
}

/** undefined: it is not intact. */
export function recordAt(bytes: Buffer, key: number, index: number): MapRecord | undefined {
  const at = headerBytes + index * recordBytes
  if (at + recordBytes > bytes.length) return undefined
  const record = decodeRecord(bytes.subarray(at, at + recordBytes), key, index)
  if (record?.type !== RecordType.page) return record
  const bits = bytes.subarray(at + recordBytes, at + recordBytes + segmentBytes)
  const isWhole = bytes.length >= at + pageRecords * recordBytes
  return isWhole && crc32(bits, index >>> 0) === record.count ? { ...record, bits } : undefined
}
