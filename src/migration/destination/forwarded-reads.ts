// Reads of an incoming disk: of the source's newest bytes, under the generation that it still has. Nothing of them is kept
// (promise 3).
//
// What always holds: a read that meets the switchover gives nothing of the old generation; it waits until the right has
// passed, and is read again in the state that the disk has then.

import type { Clock } from '../../block/clock.ts'
import type { Piece } from '../../block/units.ts'
import type { BlockSource } from '../../disk/block-source.ts'
import { PeerRefusal } from '../../link/channel.ts'
import { unlessAborted } from '../unless-aborted.ts'
import { followRight, type PassedRightParts, passingPauseMs } from './passed-right.ts'

export interface ForwardedReadsParts extends PassedRightParts {
  readonly clock: Clock
  /** The source's blocks, under its generation. */
  remote(): BlockSource
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
        await unlessAborted(followRight(this.#parts), options.signal)
        await this.#parts.clock.sleep(passingPauseMs, options.signal)
      }
    }
  }
}
