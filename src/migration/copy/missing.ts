// What turned out not to be here, until it is fetched: together, for each fetch costs a round trip. Pure.

import type { Run } from '../../block/units.ts'

/** Fetched at once. */
const muchBytes = 2 ** 20
/** A link takes more (link/wire/coverage.ts). */
const manyRuns = 1000

export class Missing {
  #runs: { offset: number; length: number }[] = []
  #bytes = 0

  get isEmpty(): boolean {
    return this.#runs.length === 0
  }

  /** It is time to fetch it. */
  get isMuch(): boolean {
    return this.#bytes >= muchBytes || this.#runs.length >= manyRuns / 2 // The next group adds at most as many.
  }

  push(run: Run): void {
    this.later(run)
    this.#bytes += run.length
  }

  /** The same, of what there is no hurry for: of a disk that is mostly hole, all of it in one fetch. */
  later(run: Run): void {
    const last = this.#runs.at(-1)
    if (last && last.offset + last.length === run.offset) last.length += run.length
    else this.#runs.push({ ...run })
  }

  /** All of it, sorted, and neighbours joined; and nothing is missing any more. */
  take(): Run[] {
    const all: { offset: number; length: number }[] = []
    for (const run of this.#runs.toSorted((one, other) => one.offset - other.offset)) {
      const last = all.at(-1)
      if (last && last.offset + last.length === run.offset) last.length += run.length
      else all.push({ ...run })
    }
    this.#runs = []
    this.#bytes = 0
    return all
  }
}
