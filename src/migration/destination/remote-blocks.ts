// The source's blocks: asks, and asks again for what is still to come when the link breaks. One generator does it all, for
// each that a piece passes costs every read of a missing block some microseconds.

import type { Clock } from '../../block/clock.ts'
import type { Piece, Run, Urgency } from '../../block/units.ts'
import type { BlockSource } from '../../disk/block-source.ts'
import type { DiskAt, SourceDesk } from '../counterpart.ts'
import { mayAskAgain, retryDelayMs } from '../retries.ts'
import { Stall } from './stall.ts'

/** Runs in one request. A link takes more (link/wire/coverage.ts): what is asked for at once is lost at once. */
const maximumRuns = 1024

export interface RemoteBlocksParts {
  readonly source: Pick<SourceDesk, 'blocks'>
  readonly clock: Clock
  readonly disk: DiskAt
  /** How long a demand fetch waits for the next piece; null: for ever. */
  readonly stallTimeoutMs: number | null
  /** The source said no. Resolves when it is worth asking again, or to `over`: nothing more is to come. @throws why it is not */
  refused(error: unknown, signal: AbortSignal): Promise<'again' | 'over'>
}

export class RemoteBlocks implements BlockSource {
  readonly #parts: RemoteBlocksParts

  constructor(parts: RemoteBlocksParts) {
    this.#parts = parts
  }

  async *fetch(
    runs: readonly Run[],
    { urgency, signal }: { urgency: Urgency; signal: AbortSignal },
  ): AsyncGenerator<Piece> {
    const { source, clock, disk, refused } = this.#parts
    let limit = this.#limit(urgency, signal)
    try {
      for (let at = 0, attempt = 1; at < runs.length; at += maximumRuns) {
        let left: readonly Run[] = runs.slice(at, at + maximumRuns)
        while (left.length > 0) {
          try {
            for await (const piece of source.blocks(disk, left, { urgency, signal: limit.signal })) {
              left = left.flatMap((run) => outside(run, piece))
              attempt = 1
              yield piece
              limit.stall?.heard() // After what was done with it: a slow landing is no silence of the source.
            }
            break
          } catch (error) {
            limit.signal.throwIfAborted()
            if (mayAskAgain(error)) {
              await clock.sleep(retryDelayMs(attempt++), limit.signal)
              continue
            }
            limit.stall?.[Symbol.dispose]() // It was heard.
            if ((await refused(error, signal)) === 'over') return
            limit = this.#limit(urgency, signal)
          }
        }
      }
    } finally {
      limit.stall?.[Symbol.dispose]()
    }
  }

  #limit(urgency: Urgency, signal: AbortSignal): { readonly stall: Stall | undefined; readonly signal: AbortSignal } {
    const { clock, stallTimeoutMs } = this.#parts
    if (urgency !== 'demand' || stallTimeoutMs === null) return { stall: undefined, signal }
    const stall = new Stall(clock, stallTimeoutMs)
    return { stall, signal: AbortSignal.any([signal, stall.signal]) }
  }
}

/** What of `run` the piece does not cover. */
function outside(run: Run, piece: Run): Run[] {
  const runEnd = run.offset + run.length
  const pieceEnd = piece.offset + piece.length
  if (pieceEnd <= run.offset || piece.offset >= runEnd) return [run]
  const rest: Run[] = []
  if (run.offset < piece.offset) rest.push({ offset: run.offset, length: piece.offset - run.offset })
  if (pieceEnd < runEnd) rest.push({ offset: pieceEnd, length: runEnd - pieceEnd })
  return rest
}
