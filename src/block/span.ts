// Runs of blocks, and what two of them have to do with each other. Pure.

import { blockSizeBytes } from './block-size.ts'

/** Blocks [first, end). */
export interface Span {
  readonly first: number
  readonly end: number
}

/** The blocks that a range of bytes touches. */
export function spanOf(offset: number, lengthBytes: number): Span {
  return { first: Math.floor(offset / blockSizeBytes), end: Math.ceil((offset + lengthBytes) / blockSizeBytes) }
}

export function overlaps(a: Span, b: Span): boolean {
  return a.first < b.end && b.first < a.end
}

/** What is left of a span: up to two. */
export function without(span: Span, taken: Span): Span[] {
  if (!overlaps(span, taken)) return [span]
  const rest: Span[] = []
  if (span.first < taken.first) rest.push({ first: span.first, end: taken.first })
  if (taken.end < span.end) rest.push({ first: taken.end, end: span.end })
  return rest
}
