// What a map log begins with: the maps as they are, as records. Where a map is in disorder, the bits of a whole segment stand in
// one record, so that a disk in full disorder takes a bit a block (1 TiB: 34 MB), and is written in a moment. Pure.

import { type BlockMap, segmentBlocks } from '../block/block-map.ts'
import type { Span } from '../block/span.ts'
import type { ArrivalMaps } from './arrival-maps.ts'
import {
  encodePage,
  encodeRecord,
  PagedMap,
  pageRecords,
  putRecord,
  RecordType,
  recordBytes,
} from './map-log-format.ts'

/** A record counts at most this many blocks (8 TiB). */
const maxRunBlocks = 2 ** 31
const recordsAtOnce = 4096

export interface Snapshot {
  readonly bytes: Buffer
  readonly records: number
  /** Whether segments are in it as bits. */
  readonly hasPages: boolean
}

/** `round`: of tentative blocks, that which is confirmed. All of it is covered by the commit at its end. */
export function snapshotOf(key: number, maps: ArrivalMaps, round: number): Snapshot {
  const writer = new Writer(key)
  writer.map(RecordType.landed, PagedMap.present, maps.present)
  writer.map(RecordType.written, PagedMap.written, maps.written)
  for (const [block, mask] of maps.partial) writer.record(RecordType.partial, block, 1, mask)
  return writer.end(round)
}

class Writer {
  readonly #key: number
  readonly #parts: Buffer[] = []
  /** Not full yet. */
  #part = Buffer.alloc(recordsAtOnce * recordBytes)
  #partBytes = 0
  #records = 0
  #hasPages = false
  /** Runs that follow each other over the ends of segments are one. */
  #run: Span | undefined

  constructor(key: number) {
    this.#key = key
  }

  map(type: number, paged: number, map: BlockMap): void {
    for (let index = 0; index < map.segmentCount; ) {
      const first = index * segmentBlocks
      // What is alike costs nothing, however long it is.
      const next = map.firstRun(first, map.blocks, true, map.blocks)
      if (!next) break
      index = Math.max(index, Math.floor(next.first / segmentBlocks))
      index = this.#segment(type, paged, map, index, next)
    }
    this.#endRun(type)
  }

  /** Returns the segment from which to go on. `next`: the first run in it. */
  #segment(type: number, paged: number, map: BlockMap, index: number, next: Span): number {
    const first = index * segmentBlocks
    const end = Math.min(map.blocks, first + segmentBlocks)
    if (next.first === first && next.end >= end) {
      const whole = next.end === map.blocks ? next.end : next.end - (next.end % segmentBlocks)
      this.#add(type, { first, end: whole })
      return Math.ceil(whole / segmentBlocks)
    }
    const runs: Span[] = []
    for (const run of map.runs(first, end, true)) if (runs.push(run) > pageRecords) break
    if (runs.length <= pageRecords) for (const run of runs) this.#add(type, run)
    else {
      this.#endRun(type)
      this.#hasPages = true
      this.#put(encodePage(this.#key, this.#records, first, paged, map.segmentAt(index) as Uint8Array))
    }
    return index + 1
  }

  record(type: number, first: number, count: number, mask = 0): void {
    if (this.#partBytes === this.#part.length) this.#endPart()
    putRecord(this.#part, this.#partBytes, this.#key, this.#records++, type, first, count, mask)
    this.#partBytes += recordBytes
  }

  end(round: number): Snapshot {
    this.#endPart()
    this.#parts.push(encodeRecord(this.#key, this.#records, RecordType.commit, this.#records, round, 0))
    return { bytes: Buffer.concat(this.#parts), records: this.#records + 1, hasPages: this.#hasPages }
  }

  #add(type: number, { first, end }: Span): void {
    if (this.#run?.end === first) this.#run = { first: this.#run.first, end }
    else {
      this.#endRun(type)
      this.#run = { first, end }
    }
  }

  #endRun(type: number): void {
    const run = this.#run
    this.#run = undefined
    for (let at = run?.first ?? 0; run && at < run.end; at += maxRunBlocks)
      this.record(type, at, Math.min(maxRunBlocks, run.end - at))
  }

  #put(page: Buffer): void {
    this.#endPart()
    this.#parts.push(page)
    this.#records += pageRecords
  }

  #endPart(): void {
    if (this.#partBytes === 0) return
    this.#parts.push(this.#part.subarray(0, this.#partBytes))
    this.#part = Buffer.alloc(recordsAtOnce * recordBytes)
    this.#partBytes = 0
  }
}
