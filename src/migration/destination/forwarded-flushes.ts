// Flushes of an incoming disk: the source syncs what it has answered, and says so. A guest that came over with unflushed
// writes behind it flushes here before it writes here; QEMU 10's first request is a flush.
//
// What always holds (promise 6):
// - A flush is covered by a sync that was asked for after it came: one question is on its way, one waits.
// - While the source is away a flush is held, as a read is. One that meets the switchover goes on in the state that follows:
//   the source synced before it gave the disk up.
// - A source that lost its power while a flush waited may have lost what that flush was to cover, and its sync would say
//   nothing of it: such a flush fails.

import type { Clock } from '../../block/clock.ts'
import { Grouping } from '../../block/grouping.ts'
import { GuestError } from '../../guest/export.ts'
import { PeerRefusal } from '../../link/channel.ts'
import { noRightCode, syncFailedCode, unknownMigrationCode } from '../codes.ts'
import { mayAskAgain, retryDelayMs } from '../retries.ts'
import { unlessAborted } from '../unless-aborted.ts'
import { followRight, type PassedRightParts, passingPauseMs } from './passed-right.ts'
import { Stall } from './stall.ts'

/** The source has the right no more, or does not know the migration any more. */
const passedCodes: readonly string[] = [noRightCode, unknownMigrationCode]

export interface ForwardedFlushesParts extends PassedRightParts {
  readonly clock: Clock
  /** How long a flush waits for the source; null: for ever. */
  readonly stallTimeoutMs: number | null
  /** Aborts when the disk has moved on from `incoming`, is superseded, or this site stops. */
  readonly signal: AbortSignal
  ask(signal: AbortSignal): Promise<unknown>
  /** The boot id of the source's kernel as it was last heard, in whatever answer; null: it never said one. */
  sourceBoot(): string | null
}

export class ForwardedFlushes {
  readonly #parts: ForwardedFlushesParts
  readonly #group = new Grouping(() => this.#untilSynced())

  constructor(parts: ForwardedFlushesParts) {
    this.#parts = parts
  }

  /** Resolves when all that the source answered before this call is durable there, or the disk is not incoming any more. */
  async flush(signal: AbortSignal): Promise<void> {
    const { clock, stallTimeoutMs, sourceBoot, diskName } = this.#parts
    const boot = sourceBoot()
    using stall = stallTimeoutMs === null ? undefined : new Stall(clock, stallTimeoutMs)
    await unlessAborted(this.#group.ask(), stall ? AbortSignal.any([signal, stall.signal]) : signal)
    if (boot === null || sourceBoot() === boot) return
    throw new GuestError(
      'io',
      `the source of ${diskName} lost its power, or was booted anew, while a flush waited: what was not flushed before may be lost`,
    )
  }

  async #untilSynced(): Promise<void> {
    const { signal, ask, isIncoming } = this.#parts
    for (let attempt = 1; isIncoming(); attempt++) {
      try {
        await ask(signal)
        return
      } catch (error) {
        if (!isIncoming()) return
        signal.throwIfAborted()
        await this.#waitAfter(error, attempt)
      }
    }
  }

  /** Until it is worth asking again. @throws GuestError when it never is */
  async #waitAfter(error: unknown, attempt: number): Promise<void> {
    const { clock, signal, isIncoming } = this.#parts
    const isPassed = error instanceof PeerRefusal && passedCodes.includes(error.code)
    if (!isPassed && !mayAskAgain(error)) throw this.#refused(error)
    try {
      if (isPassed) await unlessAborted(followRight(this.#parts), signal)
      await clock.sleep(isPassed ? passingPauseMs : retryDelayMs(attempt), signal)
    } catch (cause) {
      if (isIncoming()) throw cause // Else the disk has moved on, and the wait was ended by that.
    }
  }

  #refused(error: unknown): GuestError {
    const { diskName } = this.#parts
    const reason = (error as Error).message
    if (error instanceof PeerRefusal && error.code === syncFailedCode)
      return new GuestError('io', `what the source has answered of ${diskName} is not durable: ${reason}`, {
        cause: error,
      })
    return new GuestError('io', `the source cannot be asked to sync ${diskName}: ${reason}`, { cause: error })
  }
}
