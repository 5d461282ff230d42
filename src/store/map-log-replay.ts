// What of a map log may be believed after a start (map-log.ts says why), and the maps that follow from it. Pure.

import { BlockMap, segmentBlocks } from '../block/block-map.ts'
import type { ArrivalMaps } from './arrival-maps.ts'
import {
  damaged,
  decodeHeader,
  headerBytes,
  type MapIdentity,
  type MapLogMark,
  type MapRecord,
  PagedMap,
  placesOf,
  RecordType,
  recordAt,
  recordBytes,
  spanOfRecord,
} from './map-log-format.ts'

/**
 * Applies what may be believed. Under the same boot id nothing of the log can be lost, so that a record that does not
 * fit is damage; under another, reading ends at the first that was not written whole. That it was written once, and has
 * been damaged since, is seen by `mark`, by the header, and by what lies behind it. Returns the blocks that believed
 * records speak of and no commit covers, and the round that is confirmed (of tentative blocks).
 * @throws StoreError `newer-format`, `damaged`
 */
export function replay(
  content: Uint8Array,
  identity: MapIdentity,
  bootId: string,
  path: string,
  maps: ArrivalMaps,
  mark: MapLogMark | null = null,
): { readonly uncommitted: BlockMap; readonly round: number } {
  const bytes = Buffer.from(content.buffer, content.byteOffset, content.byteLength)
  const header = decodeHeader(bytes, identity, path)
  const sameBoot = header.bootId === bootId
  const durable = Math.max(header.snapshotRecords, mark?.key === header.key ? mark.records : 0)
  const { whole, intact, committed, round } = survey(bytes, header.key)
  if (intact < whole && (sameBoot || intact < durable || isProvenRot(bytes, header.key, intact, whole)))
    throw damaged(path, `its record ${intact} is not intact`)
  if (whole < durable) throw damaged(path, `it has ${whole} records, and had ${durable} that were durable`)
  const covered = Math.max(committed, durable)
  const believed = sameBoot ? intact : covered
  const uncommitted = new BlockMap(maps.present.blocks)
  for (let index = 0; index < believed; ) {
    const record = recordAt(bytes, header.key, index)!
    applyRecord(record, maps)
    if (index >= covered) addBlocks(uncommitted, record)
    index += placesOf(record)
  }
  maps.lostPower = header.lostPower || !sameBoot
  if (sameBoot) return { uncommitted, round }
  for (const run of maps.present.runs(0, maps.present.blocks, true)) maps.written.add(run.first, run.end)
  return { uncommitted, round }
}

/** How many records the file has room for, how many from the first on are intact, and how many of these a commit covers. */
interface Survey {
  readonly whole: number
  readonly intact: number
  readonly committed: number
  /** The highest round that a commit names. */
  readonly round: number
}

function survey(bytes: Buffer, key: number): Survey {
  const whole = Math.floor((bytes.length - headerBytes) / recordBytes)
  let intact = 0
  let committed = 0
  let round = 0
  for (let record = recordAt(bytes, key, 0); record; record = recordAt(bytes, key, intact)) {
    if (isCommit(record, intact)) {
      committed = record.first
      round = Math.max(round, record.count)
    }
    intact += placesOf(record)
  }
  return { whole, intact, committed, round }
}

/**
 * Two intact commits behind a broken record: the second was appended after the sync of the first had come back, so that
 * all before the first was durable once. A loss of power never leaves that.
 */
function isProvenRot(bytes: Buffer, key: number, broken: number, whole: number): boolean {
  let commits = 0
  for (let index = broken + 1; index < whole && commits < 2; index++) {
    const record = recordAt(bytes, key, index)
    if (record && isCommit(record, index)) commits++
  }
  return commits === 2
}

const isCommit = ({ type, first }: MapRecord, index: number): boolean => type === RecordType.commit && first <= index

/** The blocks whose bytes a record says to be here. */
function addBlocks(blocks: BlockMap, record: MapRecord): void {
  const { type } = record
  const { first, end } = spanOfRecord(record)
  if (type === RecordType.commit || type === RecordType.forgotten || first >= blocks.blocks) return
  if (type === RecordType.page) blocks.add(first, Math.min(end, blocks.blocks))
  else if (end <= blocks.blocks) blocks.add(first, end)
}

function applyRecord(record: MapRecord, maps: ArrivalMaps): void {
  const { first, count } = record
  if (record.type === RecordType.commit) return
  if (record.type === RecordType.page) {
    applyPage(record, maps)
    return
  }
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

/** Pages stand in snapshots alone, each before anything else is said of its segment; what is written is present besides. */
function applyPage({ first, mask, bits }: MapRecord, { present, written }: ArrivalMaps): void {
  const map = mask === PagedMap.written ? written : present
  if (first < map.blocks && first % segmentBlocks === 0) map.putSegment(first / segmentBlocks, bits!)
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
