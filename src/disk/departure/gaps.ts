// What of a run of blocks lies in none of several sets. Pure.

import type { Span } from '../../block/span.ts'

/** A set of blocks of which the gaps can be looked for. */
export interface Gapped {
  runs(first: number, end: number, present: false): Iterable<Span>
}

/** Of spans in order. */
export class SpanList implements Gapped {
  readonly #spans: readonly Span[]

  constructor(spans: readonly Span[]) {
    this.#spans = spans
  }

  *runs(first: number, end: number): Generator<Span> {
    let at = first
    for (let index = this.#firstBehind(first); index < this.#spans.length && at < end; index++) {
      const span = this.#spans[index]!
      if (span.first >= end) break
      if (at < span.first) yield { first: at, end: span.first }
      at = Math.max(at, span.end)
    }
    if (at < end) yield { first: at, end }
  }

  /** The index of the first that ends behind a block. */
  #firstBehind(block: number): number {
    let [low, high] = [0, this.#spans.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#spans[middle]!.end > block) high = middle
      else low = middle + 1
    }
    return low
  }
}

/** Spans, cut where windows of so many blocks end. */
export function* windowsOf(spans: readonly Span[], windowBlocks: number): Generator<Span> {
  for (const { first, end } of spans) {
    for (let at = first; at < end; ) {
      const next = Math.min(end, (Math.floor(at / windowBlocks) + 1) * windowBlocks)
      yield { first: at, end: next }
      at = next
    }
  }
}

/** What of a run is in none of these sets. */
export function* outside(run: Span, [set, ...others]: readonly Gapped[]): Generator<Span> {
  if (!set) yield run
  else for (const free of set.runs(run.first, run.end, false)) yield* outside(free, others)
}
