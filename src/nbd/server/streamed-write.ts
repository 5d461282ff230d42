// One WRITE whose payload goes to the export as it arrives, so that no memory is taken by the length that a client
// announces. Bookkeeping only. Until it is answered its range may hold any part of it, as with any write that was begun.
// Always: pieces are cut where a 4 KiB block ends, so that none needs a block to be read first; what fits before the bytes
// that arrive next makes no piece of its own, unless it is the last; with FUA the last piece begins after all others have
// settled; after a failure the rest is consumed and not written.

import { headroomBytes } from '../../guest/wire.ts'
import { CommandFlag } from '../wire/constants.ts'
import type { Request } from '../wire/transmission-codecs.ts'

const alignmentBytes = 4096

export class StreamedWrite {
  readonly request: Request
  readonly isFua: boolean
  #begunBytes = 0
  /** Pieces that a handle has and has not answered. */
  outstanding = 0
  failure: { readonly error: unknown } | undefined

  constructor(request: Request) {
    this.request = request
    this.isFua = (request.flags & CommandFlag.fua) !== 0
  }

  /** Where the next piece belongs. */
  get offset(): number {
    return this.request.offset + this.#begunBytes
  }

  get isBegun(): boolean {
    return this.#begunBytes === this.request.lengthBytes
  }

  /** Everything has arrived and has settled: it can be answered. */
  get isOver(): boolean {
    return this.isBegun && this.outstanding === 0
  }

  /** How many of `availableBytes` the next piece has, at most `mostBytes`. 0: more must arrive first. */
  nextPieceBytes(availableBytes: number, mostBytes: number): number {
    const leftBytes = this.request.lengthBytes - this.#begunBytes
    const wholeBytes = Math.min(availableBytes, mostBytes)
    if (leftBytes <= wholeBytes) return leftBytes
    if (availableBytes <= headroomBytes) return 0
    const end = this.offset + wholeBytes
    return end - (end % alignmentBytes) - this.offset
  }

  isLast(lengthBytes: number): boolean {
    return this.#begunBytes + lengthBytes === this.request.lengthBytes
  }

  advance(lengthBytes: number): void {
    this.#begunBytes += lengthBytes
  }
}
