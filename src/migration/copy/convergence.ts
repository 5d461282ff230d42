// Whether copying a disk ahead has come so far that the machine may move: what is left would take less than a second, or has
// stopped shrinking over some passes, for the guest writes as fast as the link carries. From then on it is kept in step, and most
// of the time nothing is done: but not for so long that more than a quarter of the last moments is written meanwhile.

import type { Clock } from '../../block/clock.ts'

/** What is left may take so long. */
export const lastMomentsMs = 1000
/** Where no rate is known, because hardly anything came. */
const smallBytes = 2 ** 20
/** What comes in a pass says something of the rate when it is this much. */
const tellingBytes = 2 ** 20
/** Passes after which less is left by less than this say that it does not shrink. */
const shrinkingBy = 0.9
const stalePasses = 3
/** In step: of the time, about a fifth is spent copying, if what is written meanwhile is little; and how long it may wait. */
const restForEach = 4
const shortestRestMs = 1000
const longestRestMs = 30_000
/** Of what comes in the last moments, what may be left when a rest ends: the machine may move then, and in the pass after it. */
const leftByRests = 1 / 4

export interface ConvergenceParts {
  readonly clock: Clock
  /** `--mode pre-copy`: it does not do that nothing shrinks any more. */
  readonly mustFit: boolean
  /** A pass is over. */
  judged(): void
}

export class Convergence {
  readonly #parts: ConvergenceParts
  #passes = 0
  #startedMs = 0
  #cameBytes = 0
  /** Bytes a second. */
  #rate: number | undefined
  #leftBytes = Number.POSITIVE_INFINITY
  #leastBytes = Number.POSITIVE_INFINITY
  #stale = 0
  #isInStep = false
  #nudge = Promise.withResolvers<void>()

  constructor(parts: ConvergenceParts) {
    this.#parts = parts
  }

  /** Everything is to be copied: nothing that was found holds any more. */
  anew(): void {
    this.#passes = 0
    this.#leftBytes = Number.POSITIVE_INFINITY
    this.#leastBytes = Number.POSITIVE_INFINITY
    this.#stale = 0
    this.#isInStep = false
  }

  /** The pass under way, or the next, is the first. */
  get isFirst(): boolean {
    return this.#passes === 0
  }

  get passes(): number {
    return this.#passes
  }

  /** What was left after the last pass would be here in the last moments. */
  get fits(): boolean {
    if (this.#passes === 0) return false
    if (this.#leftBytes === 0) return true
    if (this.#rate === undefined) return this.#leftBytes <= smallBytes
    return this.#leftBytes * 1000 < this.#rate * lastMomentsMs
  }

  /** It has come as far as it will. */
  get isInStep(): boolean {
    return this.#isInStep
  }

  begins(): void {
    this.#startedMs = this.#parts.clock.now()
    this.#cameBytes = 0
  }

  /** Data has come. */
  came(bytes: number): void {
    this.#cameBytes += bytes
  }

  /**
   * A pass is over: so much is left. `isWhole`: of what is written often nothing was kept back; else that what is left does not
   * shrink says nothing. Resolves when the next may begin.
   */
  async passed(leftBytes: number, isWhole: boolean, signal: AbortSignal): Promise<void> {
    const { clock, mustFit, judged } = this.#parts
    const elapsedMs = Math.max(1, clock.now() - this.#startedMs)
    this.#passes++
    if (this.#cameBytes >= tellingBytes) this.#rate = (this.#cameBytes * 1000) / elapsedMs
    this.#leftBytes = leftBytes
    if (isWhole || leftBytes <= this.#leastBytes * shrinkingBy) {
      this.#stale = leftBytes > this.#leastBytes * shrinkingBy ? this.#stale + 1 : 0
      this.#leastBytes = Math.min(this.#leastBytes, leftBytes)
    }
    const isStale = this.#stale >= stalePasses
    this.#isInStep = this.fits || (!mustFit && (isStale || this.#isInStep))
    judged()
    if (!this.#isInStep && !isStale) return
    const restMs = this.#isInStep ? this.#restMs(elapsedMs) : shortestRestMs
    if (restMs > 0) await this.#rest(restMs, signal)
  }

  /**
   * After a pass that took so long. What was written in it is what is left: so it is foreseen how long it takes until as
   * much is written as may be left. 0: it is already, and the next pass makes it less.
   */
  #restMs(elapsedMs: number): number {
    const restMs = Math.min(longestRestMs, restForEach * elapsedMs)
    const writtenPerMs = this.#leftBytes / elapsedMs
    if (!this.fits || writtenPerMs === 0) return Math.max(shortestRestMs, restMs)
    const mayBeLeft = (this.#rate === undefined ? smallBytes : (this.#rate * lastMomentsMs) / 1000) * leftByRests
    if (this.#leftBytes >= mayBeLeft) return 0
    return Math.max(shortestRestMs, Math.min(restMs, (mayBeLeft - this.#leftBytes) / writtenPerMs))
  }

  /** Somebody waits for what is left: the next pass begins now. */
  nudge(): void {
    this.#nudge.resolve()
  }

  async #rest(durationMs: number, signal: AbortSignal): Promise<void> {
    const nudged = Promise.withResolvers<void>()
    this.#nudge = nudged
    const over = new AbortController()
    const slept = this.#parts.clock.sleep(durationMs, AbortSignal.any([signal, over.signal])).catch(() => {})
    await Promise.race([slept, nudged.promise])
    over.abort()
    signal.throwIfAborted()
  }
}
