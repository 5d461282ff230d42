// The face of a disk that the copy ahead of switchover sees: blocks of an epoch land, and are made durable; and what an arriving
// disk begins with.
//
// What always holds: the epoch is on record together with the log that names it, or nothing is here. A sync that failed makes
// all of it void, for the kernel may have dropped any of it: nobody wrote it here, and all of it is copied again.

import assert from 'node:assert/strict'
import type { BlockMap } from '../block/block-map.ts'
import type { Span } from '../block/span.ts'
import type { Piece } from '../block/units.ts'
import type { ArrivalMaps } from '../store/arrival-maps.ts'
import { Landing } from './arrival/landing.ts'
import type { Tentative } from './arrival/tentative.ts'
import type { CommittedRecord } from './committed-record.ts'
import type { DiskFiles } from './disk-files.ts'
import type { DiskPlan } from './plan.ts'
import type { Landed } from './remote-part.ts'
import { SyncGroup } from './sync/sync-group.ts'

export interface AheadParts {
  readonly record: CommittedRecord
  readonly files: DiskFiles
  readonly name: string
  readonly sizeBytes: number
  landed(landed: Landed): void
}

/** What the source granted of a disk, together with it: the epoch of its dirty map, and which blocks that map names. */
export interface GrantedMap {
  readonly epoch: string
  readonly dirty: BlockMap
}

export class Ahead {
  readonly #parts: AheadParts
  readonly #landing: Landing
  readonly #syncs: SyncGroup
  /** A sync failed: nothing that is here counts. */
  #isVoid = false

  constructor(parts: AheadParts) {
    const { files } = parts
    this.#parts = parts
    this.#syncs = new SyncGroup(() => this.#landing.saving(() => files.syncTentative()), {
      onFailed: async () => {
        this.#isVoid = true
      },
    })
    this.#landing = new Landing({
      ...parts,
      file: () => files.block,
      place: () => files.tentative,
      flush: () => this.flush(),
    })
  }

  /** Of which blocks are here; undefined: none are. */
  get epoch(): string | undefined {
    return this.#tentative?.epoch
  }

  /** Blocks that were copied; the source may have written them since. */
  get blocks(): number {
    return this.#tentative?.blocks ?? 0
  }

  /** The round of the epoch up to which all that was given out is durable here, and on record as that; 0: none. */
  get round(): number {
    return this.#tentative?.round ?? 0
  }

  /** All that the source gave out up to this round has landed: the next flush confirms it. */
  roundLanded(round: number): void {
    this.#tentative?.roundLanded(round)
  }

  /** Runs of blocks of the span that were not copied yet. */
  missing(span: Span): Iterable<Span> {
    return this.#tentative?.missing(span) ?? [span]
  }

  /** From now on blocks of this epoch may be here, and none are yet. To be committed before anything lands. */
  async begin(epoch: string): Promise<DiskPlan> {
    const { record, files } = this.#parts
    assert(record.now.state === 'incoming')
    await files.makeTentative(record.now, epoch)
    return {
      record,
      next: (now) => (now.state === 'incoming' ? { ...now, tentativeEpoch: epoch } : now),
      committed: () => {
        this.#isVoid = false
        this.#syncs.mended() // What failed is void, and what lands from now on is written anew.
      },
    }
  }

  /** Writes bytes that the source had after they were asked for. The caller lets no two landings of a block overlap. */
  land(piece: Piece): Promise<void> {
    return this.#landing.land(piece, 'background')
  }

  /** The source cannot read these blocks any more. */
  forget(span: Span): void {
    this.#tentative?.forget(span)
  }

  /** What landed, or is landing, and is not durable yet. */
  get unsavedBytes(): number {
    return this.#landing.unsavedBytes
  }

  /** Resolves when what has landed before this call is durable. Rejects with FailedSync: then all of it is void. */
  flush(): Promise<void> {
    return this.#syncs.flush()
  }

  /** A sync failed: nothing of what was copied counts, until another epoch begins. */
  get isVoid(): boolean {
    return this.#isVoid
  }

  /**
   * Nothing lands any more. Resolves to what is here, durably, and is what the source granted; undefined: nothing is. What no
   * sync covers yet does not count: to make it durable now would have guests wait.
   */
  async seal(granted: GrantedMap | undefined): Promise<ArrivalMaps | undefined> {
    const { tentative } = this.#parts.files
    await tentative?.seal()
    if (!granted || this.#isVoid || tentative?.epoch !== granted.epoch) return undefined
    return tentative.presentWithout(granted.dirty)
  }

  get #tentative(): Tentative | undefined {
    return this.#isVoid ? undefined : this.#parts.files.tentative
  }
}
