// Landing: writes what was fetched into the block file of a disk, where it is to land: of an arriving one what is still missing
// (arrival.ts), of an incoming one all of it (tentative.ts).
//
// What always holds: the claim lasts until the bytes are with the kernel, and their bits come after them (promises 4 and 5).
// What landed is made durable every so often, whoever had it fetched, so that little is sent again (promise 8).

import assert from 'node:assert/strict'
import { blockSizeBytes } from '../../block/block-map.ts'
import { type Span, spanOf } from '../../block/span.ts'
import type { Piece, Run, Urgency } from '../../block/units.ts'
import type { BlockFile } from '../../store/files.ts'
import { StoreError } from '../../store/store-error.ts'
import type { Landed } from '../remote-part.ts'
import { zeroFile } from '../zero-file.ts'

const saveEveryBytes = 16 * 2 ** 20

/** The right of one landing to write `parts`. `done()` after the bytes are with the kernel; `release()` in any case. */
export interface Claim {
  /** Byte ranges to write: whole missing blocks, and the unwritten sectors of partial ones. */
  readonly parts: readonly Run[]
  readonly bytes: number
  /** Of these, bytes of blocks that were here before. */
  readonly again?: number
  done(): void
  release(): void
}

export interface LandingPlace {
  /** Claims what a landing may write within the span now. undefined: nothing. */
  claimMissing(span: Span): Claim | undefined
}

export interface LandingDisk {
  readonly name: string
  readonly sizeBytes: number
  /** The block file; undefined: it is not open. */
  file(): BlockFile | undefined
  /** undefined: nothing lands there any more. */
  place(): LandingPlace | undefined
  /** Resolves when what landed before the call is durable. */
  flush(): Promise<void>
  /** Told of what has landed, in the step in which its bits are set. */
  landed(landed: Landed): void
}

export class Landing {
  readonly #disk: LandingDisk
  #unsavedBytes = 0
  #landingBytes = 0
  #isSaving = false
  /** Of the background: what waits for its turn, and the one that has it. */
  #waitingBytes = 0
  #lastInBackground: Promise<unknown> = Promise.resolve()

  constructor(disk: LandingDisk) {
    this.#disk = disk
  }

  /** Bytes that landed, or are landing, and are not durable yet together with their bits. */
  get unsavedBytes(): number {
    return this.#unsavedBytes + this.#landingBytes + this.#waitingBytes
  }

  /**
   * Writes bytes that came where they are still missing. Those of the background land one
   * after the other: the kernel has one write of a file at a time, each thread more that waits takes the processor from the
   * loop's, and what a guest waits for, a fetch or a claim, waits for one of them at most.
   */
  land(piece: Piece, urgency: Urgency): Promise<void> {
    const lengthBytes = piece.bytes?.length ?? 0
    if (urgency === 'demand' || lengthBytes === 0) return this.#land(piece, urgency)
    this.#waitingBytes += lengthBytes
    const landed = this.#lastInBackground.then(() => {
      this.#waitingBytes -= lengthBytes
      return this.#land(piece, urgency)
    })
    this.#lastInBackground = landed.catch(() => {}) // It is told to its caller.
    return landed
  }

  async #land(piece: Piece, urgency: Urgency): Promise<void> {
    const { name } = this.#disk
    const file = this.#disk.file()
    const place = this.#disk.place()
    if (!file) throw new StoreError('closed', `disk ${name} is closed: nothing lands on it`)
    if (!place) return
    assert(!piece.bytes || piece.bytes.length === piece.length)
    const claim = place.claimMissing(this.#wholeBlocks(piece))
    if (!claim) return
    const dataBytes = piece.bytes ? claim.bytes : 0 // Zeros cost nothing to have sent again.
    this.#landingBytes += dataBytes
    try {
      for (const part of claim.parts) {
        const from = part.offset - piece.offset
        if (piece.bytes) await file.write(part.offset, piece.bytes.subarray(from, from + part.length), urgency)
        else if (!file.isHole?.(part.offset, part.length))
          await zeroFile(file, part.offset, part.length, { allocated: false })
      }
      claim.done()
      const kind = piece.bytes ? 'data' : piece.hole ? 'hole' : 'zeros'
      const again = claim.again === undefined ? {} : { again: claim.again }
      this.#disk.landed({ piece, bytes: claim.bytes, kind, ...again })
    } finally {
      this.#landingBytes -= dataBytes
      claim.release()
    }
    if (dataBytes > 0) this.#unsaved(dataBytes)
  }

  /** Runs a sync of the files: what had landed when it began is saved when it ends. */
  async saving(sync: () => Promise<void>): Promise<void> {
    const covered = this.#unsavedBytes
    await sync()
    this.#unsavedBytes -= covered
  }

  #unsaved(bytes: number): void {
    this.#unsavedBytes += bytes
    if (this.#unsavedBytes < saveEveryBytes || this.#isSaving) return
    this.#isSaving = true
    const over = () => {
      this.#isSaving = false
    }
    this.#disk.flush().then(over, over) // A failed sync is kept, and told, by the sync group.
  }

  /** Pieces are aligned to blocks, but for the disk's end. */
  #wholeBlocks(piece: Piece): Span {
    const end = piece.offset + piece.length
    assert(piece.offset % blockSizeBytes === 0 && (end % blockSizeBytes === 0 || end === this.#disk.sizeBytes))
    return spanOf(piece.offset, piece.length)
  }
}
