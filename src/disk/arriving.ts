// The face of a disk that its destination's course sees: what is copied ahead of switchover, how it begins to arrive, what is
// missing of it and what lands, how what is here is compared with the source, and how it ends: owned, or gone.
//
// What always holds: whatever the course does here, guest writes win (arrival/arrival.ts), and bits come after their bytes.

import assert from 'node:assert/strict'
import { blockSizeBytes } from '../block/block-map.ts'
import type { Span } from '../block/span.ts'
import type { Extent, Piece, Urgency } from '../block/units.ts'
import type { BlockFile, Files, MaybePromise } from '../store/files.ts'
import type { MapLog } from '../store/map-log.ts'
import type { DiskRecord } from '../store/records.ts'
import type { Ahead, GrantedMap } from './ahead.ts'
import type { Arrival } from './arrival/arrival.ts'
import type { Landing } from './arrival/landing.ts'
import type { CommittedRecord } from './committed-record.ts'
import type { DiskFiles } from './disk-files.ts'
import type { Moves } from './moves.ts'
import { dropOldBytes } from './old-bytes.ts'
import { pictureOf } from './picture.ts'
import type { DiskPlan } from './plan.ts'
import type { DiskState } from './states.ts'
import type { UnsyncedWrites } from './sync/unsynced.ts'

export interface ArrivingParts {
  readonly siteId: string
  readonly record: CommittedRecord
  readonly files: DiskFiles
  readonly landing: Landing
  readonly ahead: Ahead
  readonly moves: Moves
  readonly unsynced: UnsyncedWrites
  readonly storage: Files
  /** @throws when the block file is not open */
  bytes(): BlockFile
  flush(): Promise<void>
}

export class Arriving {
  readonly #parts: ArrivingParts

  constructor(parts: ArrivingParts) {
    this.#parts = parts
  }

  /** While it is incoming. */
  get ahead(): Ahead {
    return this.#parts.ahead
  }

  /**
   * incoming → arriving: this site owns `generation`, and what was copied ahead is here as far as the source's map lets it.
   * Durable before the first guest write is answered. `powerLoss`: what the operator of the source has not accepted; `deed`: by which it is this
   * site's.
   */
  async begin(
    generation: number,
    powerLoss: DiskRecord['powerLoss'],
    deed: DiskRecord['deed'],
    granted?: GrantedMap,
  ): Promise<DiskPlan> {
    const { siteId: owner, record, files, moves, unsynced, ahead } = this.#parts
    assert(record.now.state === 'incoming')
    const present = await ahead.seal(granted)
    // The maps are made first: an arriving disk always has them. Should the commit fail, the next attempt makes them anew.
    await files.makeMaps(record.now, generation, present)
    const facts = { generation, owner, powerLoss, deed, offered: null, tentativeEpoch: null }
    return moves.plan({
      to: 'arriving',
      // A write that waits for this is answered after it.
      facts: () => ({ ...facts, mapLog: files.mapLogMark, unsynced: unsynced.atArrival }),
      committed: () => unsynced.adopt(),
      afterwards: () => files.endTentative(record.now).catch(() => {}), // A log that stays is of no epoch on record.
    })
  }

  /** Puts on record how far the log of the maps is durable. */
  noteMapLog(): DiskPlan {
    const { record, files } = this.#parts
    return { record, next: (now) => (now.state === 'arriving' ? { ...now, mapLog: files.mapLogMark } : now) }
  }

  // ---- what is missing, and what lands

  get missingBlocks(): number {
    return this.#arrival.missingBlocks
  }

  missingBlocksIn(span: Span): number {
    return this.#arrival.missingBlocksIn(span)
  }

  /** How much of it is where, for people (picture.ts). Nobody waits for it: where the kernel would, no hole is seen. @throws StoreError */
  get picture(): string {
    const { files, record } = this.#parts
    const blocks = Math.ceil(record.now.sizeBytes / blockSizeBytes)
    const isHole = ({ first, end }: Span) =>
      files.block?.isHole?.(first * blockSizeBytes, (end - first) * blockSizeBytes) ?? false
    const { arrival, tentative } = files
    if (arrival) return pictureOf({ blocks, isHole, ...arrival.pictured })
    if (record.now.state !== 'incoming') return pictureOf({ blocks, isHole, here: 'all' })
    const aheadIn = (cell: Span) => (tentative ? cell.end - cell.first - tentative.missingIn(cell) : 0)
    return pictureOf({ blocks, isHole, aheadIn })
  }

  /** The first run of missing blocks from block `from` on, and at most `limitBlocks` of it. */
  firstMissing(from: number, limitBlocks: number): Span | undefined {
    return this.#arrival.firstMissing(from, limitBlocks)
  }

  /** A promise for when landings and guest writes that now touch the span have ended; undefined: there are none. */
  unsettled(span: Span): Promise<unknown> | undefined {
    return this.#arrival.unsettled(span)
  }

  /** Writes bytes that came where they are still missing, and tells of them (remote-part.ts). */
  land(piece: Piece, urgency: Urgency = 'demand'): Promise<void> {
    return this.#parts.landing.land(piece, urgency)
  }

  /** Bytes that landed, or are landing, and are not durable yet together with their bits. */
  get unsavedBytes(): number {
    return this.#parts.landing.unsavedBytes
  }

  /** What the disk was here before it left, for reading: a seed. undefined: there is nothing, or it cannot be opened. */
  async openOldBytes(): Promise<BlockFile | undefined> {
    const { record, storage } = this.#parts
    const { before } = record.now
    if (!before) return undefined
    return storage.openBlockFile(before.path, true).catch(() => undefined) // They may have been deleted.
  }

  // ---- the comparison with the source

  /** Whether every block that the guest did not write is known, so that it can be compared with the source. */
  get isComparable(): boolean {
    return this.#arrival.isComparable
  }

  /** Runs of blocks of the span that are here, and that the guest did not write since switchover. */
  comparable(span: Span): Generator<Span> {
    return this.#arrival.comparable(span)
  }

  /** Whether no guest wrote to the span since switchover, nor is about to. */
  isUntouched(span: Span): boolean {
    return this.#arrival.isUntouched(span)
  }

  /**
   * Blocks that turned out to be wrong are missing again. To be called in the same synchronous step in which `isUntouched`
   * was true. False when some of them are missing already.
   */
  forget(span: Span): boolean {
    return this.#arrival.forget(span)
  }

  /** What the file has, here or not, past the gate. */
  read(offset: number, target: Uint8Array): MaybePromise<void> {
    return this.#parts.bytes().read(offset, target)
  }

  extents(offset: number, lengthBytes: number, limit: number): Extent[] {
    return this.#parts.bytes().extents(offset, lengthBytes, limit)
  }

  // ---- how it ends

  /** arriving → owned: every block is here and durable. */
  async finish(): Promise<DiskPlan> {
    const { files, moves, flush } = this.#parts
    assert(this.missingBlocks === 0)
    await flush()
    let log: MapLog | undefined
    return moves.plan({
      to: 'owned',
      facts: { mapLog: null },
      committed: () => {
        log = files.endMaps()
      },
      afterwards: () => this.#cleanUp(log),
    })
  }

  async #cleanUp(log: MapLog | undefined): Promise<void> {
    const { record, storage, flush } = this.#parts
    await flush().catch(() => {}) // A sync that had begun with the log is over after this one, however it ends.
    await dropOldBytes(record, storage).catch(() => {}) // The next start tries again.
    await log?.discard().catch(() => {}) // A log that stays is of this generation, and nothing reads it any more.
    await this.#parts.files.endTentative(record.now).catch(() => {}) // Of a switchover that was cut short.
  }

  /** incoming: the deed with which it was offered, which no start needs to ask for again. */
  noteOffered(offered: DiskRecord['offered']): DiskPlan {
    return this.#parts.moves.planFacts({ offered })
  }

  /**
   * incoming → gone, or, when it was coming back, what it was before; what its source showed of it is known from now
   * on. `keepsBytes`: what was copied of it stays, as a seed for
   * the next move of it to this site, and the disk is released here: its owner has all of it, and it may be deleted.
   */
  abandon(keepsBytes = false): DiskPlan {
    const { record, files, moves, storage } = this.#parts
    const { before, path, offered, deed } = record.now
    const facts = { migrationId: null, tentativeEpoch: null }
    const known = { ...facts, offered: null, deed: offered ?? deed }
    const endTentative = () => files.endTentative(record.now).catch(() => {})
    if (!before && keepsBytes) return moves.plan({ to: 'released', facts: known, afterwards: endTentative })
    if (!before) return moves.plan({ to: 'gone', facts }) // Whoever removes the disk removes its folder.
    return moves.plan({
      to: before.state as DiskState,
      facts: { ...known, path: before.path, before: null, taken: before.state === 'released' },
      afterwards: async () => {
        await storage.remove(path).catch(() => {}) // Its bytes are nobody's; each try has a file of its own.
        await endTentative()
      },
    })
  }

  /** Of a disk that arrives, or has arrived since it was opened. */
  get #arrival(): Arrival {
    const { arrival } = this.#parts.files
    assert(arrival)
    return arrival
  }
}
