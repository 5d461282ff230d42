// The bytes of one connection that have arrived and are not used up. What a socket received lies in a buffer that it will
// fill again; what is left of it after the call is copied, and put before what comes next.
// Always: bytes that are kept are counted in the server's budget.

import type { MemoryBudget } from './memory-budget.ts'

const nothing = Buffer.alloc(0)

export class Input {
  readonly #budget: MemoryBudget
  /** The bytes from `at` to `end` are to be used. */
  bytes: Buffer = nothing
  at = 0
  end = 0
  #keptBytes = 0

  constructor(budget: MemoryBudget) {
    this.#budget = budget
  }

  get availableBytes(): number {
    return this.end - this.at
  }

  /** Counted in the budget. */
  get keptBytes(): number {
    return this.#keptBytes
  }

  /** Adds [from, to) of `bytes`, which last until keep(); what lies before `from` may be overwritten. */
  push(bytes: Buffer, from: number, to: number): void {
    const leftBytes = this.availableBytes
    const left = this.bytes.subarray(this.at, this.end)
    if (leftBytes <= from) {
      left.copy(bytes, from - leftBytes)
      this.#use(bytes, from - leftBytes, to)
    } else {
      const joined = Buffer.concat([left, bytes.subarray(from, to)])
      this.#use(joined, 0, joined.length)
    }
  }

  /** What was pushed last does not last any longer. */
  keep(): void {
    if (this.availableBytes === 0) this.clear()
    if (this.#keptBytes > 0 || this.availableBytes === 0) return
    const kept = Buffer.from(this.bytes.subarray(this.at, this.end))
    this.#use(kept, 0, kept.length)
    this.#keptBytes = kept.length
    this.#budget.take(kept.length)
  }

  clear(): void {
    this.#use(nothing, 0, 0)
  }

  #use(bytes: Buffer, from: number, to: number): void {
    if (this.#keptBytes > 0) this.#budget.give(this.#keptBytes)
    this.#keptBytes = 0
    this.bytes = bytes
    this.at = from
    this.end = to
  }
}
