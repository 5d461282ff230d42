// Where the blocks that are missing here can be had, written by its user, the disk. The migration implements it over a
// link, the crash model over a simulated one.

import type { Piece, Run, Urgency } from '../block/units.ts'

export interface BlockSource {
  /**
   * Pieces that cover `runs` completely, in any order, each checked for integrity. Runs are sorted, disjoint and aligned to
   * blocks (but for the disk's end). Throws when the pieces cannot be had; what was yielded before is good.
   * `demand` waits for the link to come back for as long as `signal` lets it.
   */
  fetch(runs: readonly Run[], options: { urgency: Urgency; signal: AbortSignal }): AsyncIterable<Piece>
}

/** Copies what a piece has of `part` into `target`, whose first byte is the disk's byte `offset`. */
export function copyPiece(piece: Piece, offset: number, target: Uint8Array, part: Run): void {
  const from = Math.max(piece.offset, part.offset)
  const to = Math.min(piece.offset + piece.length, part.offset + part.length)
  if (from >= to) return
  if (piece.bytes) target.set(piece.bytes.subarray(from - piece.offset, to - piece.offset), from - offset)
  else target.fill(0, from - offset, to - offset)
}
