// Which ranges of a disk its guest writes again and again, by what was observed: these are copied last, for what is copied of
// them early is copied in vain. Pure.

import type { Span } from '../../block/span.ts'

/** Of which the writes are counted together: 1 MiB, or more of a disk of over 1 TiB. */
const regionBlocks = 256
const mostRegions = 2 ** 20
/** Counts are halved so often: what was written once, in order, has cooled soon. */
const halfLifeMs = 10_000
/** A region that was written so often lately is hot. */
const hotWrites = 8
const mostWrites = 255

export class Heat {
  readonly #writes: Uint8Array
  readonly #regionBlocks: number
  #halvedAtMs: number

  constructor(blocks: number, nowMs: number) {
    this.#regionBlocks = regionBlocks * Math.ceil(blocks / regionBlocks / mostRegions)
    this.#writes = new Uint8Array(Math.ceil(blocks / this.#regionBlocks))
    this.#halvedAtMs = nowMs
  }

  /** A write begins. Of a long one the first region counts: it is written in order. */
  add(block: number): void {
    const region = Math.floor(block / this.#regionBlocks)
    const writes = this.#writes[region]!
    if (writes < mostWrites) this.#writes[region] = writes + 1
  }

  isHot(block: number): boolean {
    return this.#writes[Math.floor(block / this.#regionBlocks)]! >= hotWrites
  }

  /** To be called before it is asked, as often as one likes. */
  passTime(nowMs: number): void {
    const halvings = Math.floor((nowMs - this.#halvedAtMs) / halfLifeMs)
    if (halvings <= 0) return
    this.#halvedAtMs += halvings * halfLifeMs
    if (halvings >= 8) this.#writes.fill(0)
    else for (const [region, writes] of this.#writes.entries()) this.#writes[region] = writes >>> halvings
  }

  /** The beginning of a span that is all hot, or all not. */
  alike({ first, end }: Span): Span {
    const isHot = this.isHot(first)
    let at = this.#regionEnd(first)
    while (at < end && this.isHot(at) === isHot) at = this.#regionEnd(at)
    return { first, end: Math.min(at, end) }
  }

  #regionEnd(block: number): number {
    return (Math.floor(block / this.#regionBlocks) + 1) * this.#regionBlocks
  }
}
