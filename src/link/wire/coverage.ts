// Which bytes of a fetch are still to come. Holds that pieces lie within the runs asked for and that no byte comes twice.

import type { Run } from '../../block/units.ts'
import { LinkError } from '../channel.ts'

export const maximumRuns = 4096
/** Pieces in disorder leave gaps; a peer that makes more than these is not worth the memory. */
const maximumGaps = 16384

interface Gap {
  start: number
  end: number
}

export class Coverage {
  readonly #gaps: Gap[] = []

  /** Throws a RangeError unless the runs are sorted, disjoint, not empty, and not too many. */
  constructor(runs: readonly Run[]) {
    if (runs.length > maximumRuns) throw new RangeError(`${runs.length} runs in one fetch, at most ${maximumRuns} fit`)
    for (const { offset, length } of runs) {
      const last = this.#gaps.at(-1)
      const end = offset + length
      if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(end) || offset < (last?.end ?? 0) || length < 1) {
        throw new RangeError(`the run of ${length} bytes at ${offset} is not sorted, disjoint and finite`)
      }
      if (last?.end === offset) last.end = end
      else this.#gaps.push({ start: offset, end })
    }
  }

  get complete(): boolean {
    return this.#gaps.length === 0
  }

  get firstMissing(): number | undefined {
    return this.#gaps[0]?.start
  }

  /** Throws LinkError 'protocol' when the piece was not asked for, or came before. */
  add(piece: Run): void {
    const start = piece.offset
    const end = piece.offset + piece.length
    const index = this.#find(start)
    const gap = this.#gaps[index]
    if (!gap || start < gap.start || end > gap.end) {
      throw new LinkError('protocol', `a piece of ${piece.length} bytes at ${start} was not asked for, or came twice`)
    }
    const rest: Gap[] = []
    if (gap.start < start) rest.push({ start: gap.start, end: start })
    if (end < gap.end) rest.push({ start: end, end: gap.end })
    this.#gaps.splice(index, 1, ...rest)
    if (this.#gaps.length > maximumGaps) throw new LinkError('protocol', `pieces came in over ${maximumGaps} fragments`)
  }

  /** The first gap that ends after `offset`. */
  #find(offset: number): number {
    let low = 0
    let high = this.#gaps.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#gaps[middle]!.end > offset) high = middle
      else low = middle + 1
    }
    return low
  }
}
