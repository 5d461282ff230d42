// What the source has sent of a frozen disk, counted where it leaves: bytes of data in all, and those of blocks that had
// been sent before, whether they were lost on the way, lost with the destination, or asked for twice.

import { BlockMap, blockSizeBytes } from '../../block/block-map.ts'
import type { Piece } from '../../block/units.ts'

export interface Sent {
  readonly sent: number
  readonly resent: number
}

export class SentCount {
  readonly #once: BlockMap
  #sent = 0
  #resent = 0

  constructor(sizeBytes: number) {
    this.#once = new BlockMap(Math.ceil(sizeBytes / blockSizeBytes))
  }

  get now(): Sent {
    return { sent: this.#sent, resent: this.#resent }
  }

  /** A piece leaves. Zeros and holes weigh nothing. */
  add({ offset, length, bytes }: Piece): void {
    if (!bytes) return
    const first = offset / blockSizeBytes
    const end = Math.ceil((offset + length) / blockSizeBytes)
    const before = this.#once.count
    this.#once.add(first, end)
    const again = end - first - (this.#once.count - before)
    this.#sent += length
    this.#resent += Math.min(again * blockSizeBytes, length)
  }

  /** The destination remembers more than a source that has started anew. */
  atLeast({ sent, resent }: Sent): void {
    this.#sent = Math.max(this.#sent, sent)
    this.#resent = Math.max(this.#resent, resent)
  }
}
