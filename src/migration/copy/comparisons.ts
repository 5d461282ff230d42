// The comparisons of an arriving disk with its source: the one before the disk is owned, and those that operators ask for.
//
// What always holds: whatever differs is missing again, durably, is logged, and is named in the record. The last comparison
// ends them all in the step in which nothing is missing and none that an operator asked for is under way: from then on
// nothing can be found missing.

import type { Clock } from '../../block/clock.ts'
import type { Extent, Run } from '../../block/units.ts'
import type { Disk } from '../../disk/disk.ts'
import type { CourseLog } from '../course.ts'
import { nothingToCompare } from '../refusals.ts'
import { merged, rangesText } from '../unreadable.ts'
import { Pause } from './pause.ts'
import { Verification } from './verification.ts'

const troublePauseMs = 1000

/** What a comparison with the source found. */
export interface Comparison {
  readonly comparedBytes: number
  /** Ranges that differ; they are missing again, and fetched anew. */
  readonly differing: readonly Run[]
}

export interface ComparisonsParts {
  readonly migration: string
  readonly disk: Disk
  readonly clock: Clock
  readonly log: CourseLog
  /** The operator's, of the background copy. */
  readonly pause: Pause
  /** Ends when this site stops, and when this disk is superseded. */
  readonly working: AbortSignal
  extents(offset: number, lengthBytes: number, signal: AbortSignal): Promise<readonly Extent[]>
  digests(runs: readonly Run[], signal: AbortSignal): Promise<readonly string[]>
  /** Resolves when it is durable that the ranges are missing. Names them at the end, at both sites. */
  recordDiffering(differing: readonly Run[]): Promise<void>
  note(sentence: string | null): void
}

export class Comparisons {
  readonly #parts: ComparisonsParts
  /** Those that operators asked for. */
  readonly #asked = new Set<Promise<number>>()
  #hasEnded = false

  constructor(parts: ComparisonsParts) {
    this.#parts = parts
  }

  /** `disk verify`: compares what is here, and was not written here, with the source. @throws Refusal, LinkError, PeerRefusal */
  async ask(signal: AbortSignal): Promise<Comparison> {
    const { disk, working, recordDiffering } = this.#parts
    if (disk.state !== 'arriving' || this.#hasEnded) throw nothingToCompare(disk)
    const differing: Run[] = []
    const verification = this.#verification(new Pause(false), AbortSignal.any([signal, working]), differing)
    const work = verification.run()
    this.#asked.add(work)
    try {
      await work
    } finally {
      this.#asked.delete(work)
      await recordDiffering(differing)
    }
    return { comparedBytes: verification.comparedBytes, differing: merged(differing) }
  }

  /**
   * Whether all is here, and is what the source has; then no comparison begins any more. Else something is missing again, or it
   * cannot be compared now, and other disks of the move wait for their turn. Rejects when `signal` aborts.
   */
  async isLast(signal: AbortSignal, othersWait: () => boolean = () => false): Promise<boolean> {
    if (!(await this.#isVerified(signal, othersWait))) return false
    while (this.#asked.size > 0) await Promise.allSettled(this.#asked)
    this.#hasEnded = this.#parts.disk.arriving.missingBlocks === 0
    return this.#hasEnded
  }

  async #isVerified(signal: AbortSignal, othersWait: () => boolean): Promise<boolean> {
    const { disk, clock, pause, recordDiffering, note } = this.#parts
    for (;;) {
      const differing: Run[] = []
      const verification = this.#verification(pause, signal, differing)
      try {
        try {
          await verification.run()
        } finally {
          await recordDiffering(differing) // Also what it found before it was cut short.
        }
        // A comparison that was cut short may have left blocks missing that this one does not count.
        if (differing.length === 0 && disk.arriving.missingBlocks === 0) {
          note(null)
          return true
        }
        note(`it differed from the source in ${rangesText(merged(differing))}: fetched again`)
        await clock.sleep(troublePauseMs, signal) // Storage that goes on lying must not make a busy loop.
        return false
      } catch (error) {
        signal.throwIfAborted()
        if (disk.isFailed) throw error
        const isWhole = disk.arriving.missingBlocks === 0
        const standing = isWhole ? 'every block has come' : 'what differed is fetched again'
        note(`${standing}; the comparison with the source waits: ${(error as Error).message}`)
        await clock.sleep(troublePauseMs, signal)
        if (!isWhole || othersWait()) return false // What is missing does not wait for what cannot be compared.
      }
    }
  }

  #verification(pause: Pause, signal: AbortSignal, differing: Run[]): Verification {
    const { migration, disk, clock, log, extents, digests } = this.#parts
    return new Verification(
      {
        disk,
        clock,
        pause,
        extents,
        digests,
        differs: (run) => {
          differing.push(run)
          log('error', { migration, disk: disk.name, ...run }, 'a range differs from the source: it is fetched again')
        },
      },
      signal,
    )
  }
}
