// Reads of an incoming disk: of the source's newest bytes, under the generation that it still has. Nothing of them is kept
// (promise 3).
//
// What always holds: a read that meets the switchover gives nothing of the old generation; it waits until the right has
// passed, and is read again in the state that the disk has then.

import type { Clock } from '../../block/clock.ts'
import type { Piece } from '../../block/units.ts'
import type { BlockSource } from '../../disk/block-source.ts'
import { PeerRefusal } from '../../link/channel.ts'
import { noRightCode } from '../codes.ts'
import { unlessAborted } from '../unless-aborted.ts'
import { followRight, type PassedRightParts, passingPauseMs } from './passed-right.ts'
import type { RemoteBlocksParts } from './remote-blocks.ts'

export interface ForwardedReadsParts extends PassedRightParts {
  readonly clock: Clock
  /** The source's blocks, under its generation. `refused`: what is to become of a read that it refused. */
  remote(refused: RemoteBlocksParts['refused']): BlockSource
}

export class ForwardedReads implements BlockSource {
  readonly #parts: ForwardedReadsParts
  readonly #remote: BlockSource

  constructor(parts: ForwardedReadsParts) {
    this.#parts = parts
    this.#remote = parts.remote((error, signal) => this.#refused(error, signal))
  }

  fetch(...[runs, options]: Parameters<BlockSource['fetch']>): AsyncIterable<Piece> {
    return this.#remote.fetch(runs, options)
  }

  async #refused(error: unknown, signal: AbortSignal): Promise<'again' | 'over'> {
    if (!this.#parts.isIncoming()) return 'over' // Read again, in the state that the disk has now.
    if (!(error instanceof PeerRefusal && error.code === noRightCode)) throw error
    await unlessAborted(followRight(this.#parts), signal)
    await this.#parts.clock.sleep(passingPauseMs, signal)
    return 'again'
  }
}
