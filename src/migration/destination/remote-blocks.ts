// The source's blocks over a channel: asks, and asks again for what is still to come when the link breaks. Counts what came.

import type { Clock } from '../../block/clock.ts'
import type { BlockSource, Piece, Run, Urgency } from '../../disk/block-source.ts'
import { LinkError, type PeerChannel, PeerRefusal } from '../../link/channel.ts'
import { Stall } from './stall.ts'

/** Runs in one request (link/wire/coverage.ts takes no more). */
const maximumRuns = 1024
const firstRetryMs = 50
const longestRetryMs = 2000

/** How long to wait before attempt number `attempt` (from 1): doubling, with a bound. The hub adds the jitter of dialling. */
export function retryDelayMs(attempt: number): number {
  return Math.min(longestRetryMs, firstRetryMs * 2 ** Math.min(attempt - 1, 10))
}

export interface RemoteBlocksOptions {
  readonly channel: PeerChannel
  readonly clock: Clock
  readonly migration: string
  readonly generation: number
  /** How long a demand fetch waits for the next piece; null: for ever. */
  readonly stallTimeoutMs: number | null
  /** The peer said no, for good. */
  readonly refused?: (error: unknown) => void
}

export class RemoteBlocks implements BlockSource {
  readonly #options: RemoteBlocksOptions

  constructor(options: RemoteBlocksOptions) {
    this.#options = options
  }

  async *fetch(runs: readonly Run[], options: { urgency: Urgency; signal: AbortSignal }): AsyncGenerator<Piece> {
    const { clock, stallTimeoutMs } = this.#options
    const isTimed = options.urgency === 'demand' && stallTimeoutMs !== null
    using stall = isTimed ? new Stall(clock, stallTimeoutMs) : undefined
    const signal = stall ? AbortSignal.any([options.signal, stall.signal]) : options.signal
    for (let at = 0; at < runs.length; at += maximumRuns) {
      for await (const piece of this.#fetchSome(runs.slice(at, at + maximumRuns), { ...options, signal })) {
        yield piece
        stall?.heard() // After what was done with it: a slow landing is no silence of the source.
      }
    }
  }

  async *#fetchSome(runs: readonly Run[], options: { urgency: Urgency; signal: AbortSignal }): AsyncGenerator<Piece> {
    const { channel, clock, migration, generation, refused } = this.#options
    let left = runs
    for (let attempt = 1; left.length > 0; attempt++) {
      try {
        for await (const piece of channel.fetch({ migration, generation, runs: left }, options)) {
          left = left.flatMap((run) => outside(run, piece))
          attempt = 0
          yield piece
        }
        return
      } catch (error) {
        options.signal.throwIfAborted()
        if (!mayAskAgain(error)) {
          refused?.(error)
          throw error
        }
        await clock.sleep(retryDelayMs(Math.max(attempt, 1)), options.signal)
      }
    }
  }
}

/** The refusal of a site that starts and does not know yet which migrations it has. */
export const startingCode = 'starting'

/** Whether the same question may be answered the next time. */
export function mayAskAgain(error: unknown): boolean {
  if (error instanceof PeerRefusal) return error.code === startingCode
  return error instanceof LinkError && error.code !== 'closed'
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
