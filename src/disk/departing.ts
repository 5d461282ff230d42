// The face of a disk that its source's course sees: what its destination reads of it, before and after the disk is given up,
// and the moves out of this site and back.
//
// What always holds: nothing here asks who has the right to read, or whether the disk may go: the course does, before each
// call. The bytes are read past the gate that holds guests.

import assert from 'node:assert/strict'
import type { Extent, Piece, Run } from '../block/units.ts'
import type { BlockFile, Files, MaybePromise } from '../store/files.ts'
import type { DiskRecord } from '../store/records.ts'
import type { CommittedRecord } from './committed-record.ts'
import { alignedExtentsInTurns, type ReadableDisk, readPieces, readWhole } from './departure/frozen-reader.ts'
import type { DiskFiles } from './disk-files.ts'
import type { Moves } from './moves.ts'
import type { DiskPlan } from './plan.ts'
import type { UnsyncedWrites } from './sync/unsynced.ts'

export interface DepartingParts {
  readonly siteId: string
  /** `serve --read-only`. */
  readonly readOnly: boolean
  readonly record: CommittedRecord
  readonly files: DiskFiles
  readonly moves: Moves
  readonly unsynced: UnsyncedWrites
  readonly storage: Files
  /** @throws when the block file is not open */
  bytes(): BlockFile
}

export class Departing implements ReadableDisk {
  readonly #parts: DepartingParts

  constructor(parts: DepartingParts) {
    this.#parts = parts
  }

  get name(): string {
    return this.#parts.record.now.name
  }

  /** Before the guest may leave: what was answered to it and is not durable is known as such. */
  coverAnswered(): Promise<void> {
    return this.#parts.unsynced.coverAnswered()
  }

  // ---- what the destination reads

  read(offset: number, target: Uint8Array): MaybePromise<void> {
    return this.#parts.bytes().read(offset, target)
  }

  extents(offset: number, lengthBytes: number, limit: number): Extent[] {
    return this.#parts.bytes().extents(offset, lengthBytes, limit)
  }

  /** Data and holes of a run, of whole blocks: until its end, or for `limit` extents or some more. `turn` begins each step. */
  alignedExtents(run: Run, limit: number, turn: () => Promise<void>): Promise<Extent[]> {
    return alignedExtentsInTurns(this, run, limit, turn)
  }

  /** The pieces of `runs`, in order; `turn` begins each step. @throws UnreadableRange after what lies before it has come */
  pieces(runs: readonly Run[], turn: () => Promise<void>, signal: AbortSignal): AsyncGenerator<Piece> {
    return readPieces(this, runs, turn, signal)
  }

  /** All bytes of a run. @throws UnreadableRange */
  readWhole(run: Run): Promise<Uint8Array> {
    return readWhole(this, run)
  }

  // ---- moves

  /** owned → departed: `owner` may serve `generation` from now on, by `deed`. */
  depart(facts: Pick<DiskRecord, 'generation' | 'owner' | 'deed'>): DiskPlan {
    return this.#parts.moves.plan({ to: 'departed', facts: { ...facts, taken: false } })
  }

  /** That the new owner has taken the disk. */
  noteTaken(): DiskPlan {
    return this.#parts.moves.planFacts({ taken: true })
  }

  /** departed → released: the new owner has every block, durably. */
  release(deed: DiskRecord['deed']): DiskPlan {
    return this.#parts.moves.plan({ to: 'released', facts: { migrationId: null, taken: true, deed } })
  }

  /** departed → owned, under a generation of its own: the site that had the disk is lost for good. */
  async reclaim(generation: number, deed: DiskRecord['deed']): Promise<DiskPlan> {
    const { record, files, moves, siteId: owner, readOnly } = this.#parts
    assert(record.now.state === 'departed')
    if (!readOnly) await files.reopenForWriting(record.now)
    return moves.plan({ to: 'owned', facts: { generation, owner, migrationId: null, taken: false, deed } })
  }

  /** Removes the bytes of a disk that another site has wholly. */
  async discardBytes(): Promise<void> {
    const { record, storage } = this.#parts
    const { state, path } = record.now
    assert(state === 'released' || state === 'gone' || state === 'superseded')
    await storage.remove(path)
  }
}
