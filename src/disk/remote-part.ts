// What a disk needs of its migration while it is incoming or arriving, written by its user, the disk: where the source's
// bytes can be had, how the right to write is asked for, and who is told of what has landed.

import type { Piece } from '../block/units.ts'
import type { BlockSource } from './block-source.ts'

/** While it is incoming. */
export interface IncomingPart {
  /** Reads of the source's newest bytes, while the source owns. */
  readonly source: BlockSource
  /** Resolves when this site owns. Rejects with an error for the guest when the source is busy for too long, or the migration ended. */
  askSwitchover(signal: AbortSignal): Promise<void>
  /**
   * Resolves when all that the source had answered is durable there, or when the disk has moved on from `incoming`. Rejects
   * when that cannot be known.
   */
  flushSource(signal: AbortSignal): Promise<void>
}

/** What a landing wrote: what was here already, or is the guest's, of a piece does not land. */
export interface Landed {
  /** The piece that came. */
  readonly piece: Omit<Piece, 'bytes' | 'hole'>
  /** How much of it landed: what was still missing; of an incoming disk all of it. */
  readonly bytes: number
  /** Of that, bytes of blocks that had landed before, and were written at the source since. */
  readonly again?: number
  /** `zeros`: they stood at the source as data; `hole`: nothing did. */
  readonly kind: 'data' | 'zeros' | 'hole'
}

export interface RemotePart extends IncomingPart {
  /** The source's frozen bytes, once this site owns. */
  readonly frozen: BlockSource
  /** Told of each landing, whoever had it fetched, in the step in which its bits are set: also of what lands ahead of switchover. */
  landed(landed: Landed): void
}
