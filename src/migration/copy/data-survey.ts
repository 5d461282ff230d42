// How many bytes of data an arriving disk still lacks: holes land in no time, so that the time left follows from data alone.
// Asks the source for the extents of the whole disk once, when the copy begins. Only an estimate for people: until the whole
// disk is known there is none, and nothing waits for it.

import { blockSizeBytes } from '../../block/block-map.ts'
import type { Clock } from '../../block/clock.ts'
import type { Span } from '../../block/span.ts'
import type { Extent } from '../../block/units.ts'

/** What is counted together: a segment of the present map, so that what is missing of it is known at once. */
const leastSegmentBytes = 32_768 * blockSizeBytes
/** Of a disk of over 8 TiB segments are longer: what is kept of it does not grow with its size. */
const mostSegments = 65_536
const leastAskBytes = 2 ** 30
const retryMs = 2000
/** Counted in one turn of the loop. */
const extentsAtOnce = 64

export interface DataSurveyParts {
  readonly sizeBytes: number
  readonly clock: Clock
  /** Of a span of blocks, how many are missing still. */
  missingBlocksIn(span: Span): number
  /** Extents of the frozen disk that cover a beginning of the range. */
  extents(offset: number, lengthBytes: number, signal: AbortSignal): Promise<readonly Extent[]>
}

export class DataSurvey {
  readonly #parts: DataSurveyParts
  /** Bytes of data that were missing when they were surveyed and have not landed since. */
  readonly #missing: Float64Array
  readonly #segmentBytes: number
  #surveyedBytes = 0

  constructor(parts: DataSurveyParts) {
    this.#parts = parts
    const doublings = Math.max(0, Math.ceil(Math.log2(parts.sizeBytes / leastSegmentBytes / mostSegments)))
    this.#segmentBytes = leastSegmentBytes * 2 ** doublings
    this.#missing = new Float64Array(Math.ceil(parts.sizeBytes / this.#segmentBytes))
  }

  /** undefined: not known yet. What the guest wrote meanwhile is not missing any more. */
  get missingBytes(): number | undefined {
    const { sizeBytes, missingBlocksIn } = this.#parts
    if (this.#surveyedBytes < sizeBytes) return undefined
    let sum = 0
    const end = Math.ceil(sizeBytes / blockSizeBytes)
    for (const [segment, bytes] of this.#missing.entries()) {
      if (bytes === 0) continue
      const first = (segment * this.#segmentBytes) / blockSizeBytes
      const span = { first, end: Math.min(first + this.#segmentBytes / blockSizeBytes, end) }
      sum += Math.min(bytes, missingBlocksIn(span) * blockSizeBytes)
    }
    return sum
  }

  /** Bytes of an extent of data have landed, be they zeros. */
  landed(offset: number, lengthBytes: number): void {
    if (offset >= this.#surveyedBytes) return // They are not counted as missing then.
    const segment = Math.floor(offset / this.#segmentBytes)
    this.#missing[segment] = Math.max(0, this.#missing[segment]! - lengthBytes)
  }

  /** Resolves when the whole disk is known. Rejects only when `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { sizeBytes, clock, extents } = this.#parts
    while (this.#surveyedBytes < sizeBytes) {
      const askBytes = Math.max(leastAskBytes, this.#segmentBytes)
      const lengthBytes = Math.min(askBytes, sizeBytes - this.#surveyedBytes)
      try {
        const found = await extents(this.#surveyedBytes, lengthBytes, signal)
        for (const [index, extent] of found.entries()) {
          if (index % extentsAtOnce === 0) await clock.turn()
          signal.throwIfAborted()
          this.#count(extent)
        }
      } catch {
        signal.throwIfAborted()
        await clock.sleep(retryMs, signal)
      }
    }
  }

  #count({ offset, length, data }: Extent): void {
    const { missingBlocksIn } = this.#parts
    const end = Math.min(offset + length, this.#parts.sizeBytes)
    for (let at = offset; data && at < end; ) {
      const segment = Math.floor(at / this.#segmentBytes)
      const to = Math.min(end, (segment + 1) * this.#segmentBytes)
      const span = { first: Math.floor(at / blockSizeBytes), end: Math.ceil(to / blockSizeBytes) }
      this.#missing[segment]! += Math.min(missingBlocksIn(span) * blockSizeBytes, to - at)
      at = to
    }
    this.#surveyedBytes = end
  }
}
