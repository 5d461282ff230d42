// Reads of an incoming disk: of the source's newest bytes, under the generation that it still has. Nothing of them is kept
// (promise 3).
//
// What always holds: a read that meets the switchover gives nothing of the old generation; it waits until the right has
// passed, and is read again in the state that the disk has then.

import type { BlockSource } from '../disk/block-source.ts'
import type { Clock } from '../disk/clock.ts'
import { PeerRefusal, type Piece } from '../link/channel.ts'
import { NbdError } from '../nbd/export.ts'
import type { InquireAnswer } from './messages.ts'
import { unlessAborted } from './unless-aborted.ts'

/** While the source's right is passing on, a forwarded read looks again after this. */
const passingPauseMs = 20

export interface ForwardedReadsParts {
  readonly diskName: string
  readonly clock: Clock
  /** The source's blocks, under its generation. */
  remote(): BlockSource
  isIncoming(): boolean
  /** An acquire is under way. */
  isAcquiring(): boolean
  inquire(): Promise<InquireAnswer>
  /** The source says that it has departed: the grant is asked for again. */
  hasDeparted(): void
  /** The source says that the migration is cancelled. */
  isCancelled(): Promise<void>
}

export class ForwardedReads implements BlockSource {
  readonly #parts: ForwardedReadsParts

  constructor(parts: ForwardedReadsParts) {
    this.#parts = parts
  }

  async *fetch(...[runs, options]: Parameters<BlockSource['fetch']>): AsyncGenerator<Piece> {
    const remote = this.#parts.remote()
    for (;;) {
      try {
        yield* remote.fetch(runs, options)
        return
      } catch (error) {
        options.signal.throwIfAborted()
        if (!this.#parts.isIncoming()) return // Read again, in the state that the disk has now.
        if (!(error instanceof PeerRefusal && error.code === 'no-right')) throw error
        // The source has departed, and its grant is on the way here; or the migration was cancelled there. A grant whose
        // answer was lost is found by asking again.
        if (!this.#parts.isAcquiring()) await unlessAborted(this.#lookAgain(), options.signal)
        await this.#parts.clock.sleep(passingPauseMs, options.signal)
      }
    }
  }

  async #lookAgain(): Promise<void> {
    const { inquire, isCancelled, isIncoming, hasDeparted, diskName } = this.#parts
    const { state } = await inquire()
    if (state === 'cancelled') await isCancelled()
    else if (state === 'departed' && isIncoming()) hasDeparted()
    else if (state === 'taken' || state === 'released') {
      throw new NbdError(
        'EIO',
        `the source says that ${diskName} was taken already: this site was restored from an old copy`,
      )
    }
  }
}
