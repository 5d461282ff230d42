// The bytes of one connection that have arrived and are not used up. What a socket received lies in a buffer that it will
// fill again; what is left of it after the call is copied, and put before what comes next. It is copied into memory that
// is used again: fresh buffers of this size had the collector go through the whole heap a dozen times a second.
// Always: bytes that are kept are counted in the server's budget.

import { type Block, type BlockPool, blockBytes } from '../../guest/blocks.ts'
import type { MemoryBudget } from '../../guest/memory-budget.ts'
import { headroomBytes } from '../../guest/wire.ts'

const nothing = Buffer.alloc(0)

export class Input {
  readonly #budget: MemoryBudget
  readonly #pool: BlockPool
  /** The bytes from `at` to `end` are to be used. */
  bytes: Buffer = nothing
  at = 0
  end = 0
  #keptBytes = 0
  /** Where an end of a request is kept, of up to `headroomBytes`. */
  #tail = nothing
  /** Where more is kept. */
  #block: Block | undefined

  constructor(budget: MemoryBudget, pool: BlockPool) {
    this.#budget = budget
    this.#pool = pool
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
    const lengthBytes = this.availableBytes
    const target = this.#memoryFor(lengthBytes)
    this.bytes.copy(target, 0, this.at, this.end)
    this.bytes = target
    this.at = 0
    this.end = lengthBytes
    this.#keptBytes = this.#block === undefined ? lengthBytes : blockBytes
    this.#budget.take(this.#keptBytes)
  }

  #memoryFor(lengthBytes: number): Buffer {
    if (lengthBytes > blockBytes) return Buffer.alloc(lengthBytes)
    if (lengthBytes > headroomBytes) {
      this.#block = this.#pool.take()
      return this.#block.bytes
    }
    if (this.#tail.length === 0) this.#tail = Buffer.alloc(headroomBytes)
    return this.#tail
  }

  clear(): void {
    this.#use(nothing, 0, 0)
  }

  #use(bytes: Buffer, from: number, to: number): void {
    if (this.#keptBytes > 0) this.#budget.give(this.#keptBytes)
    this.#keptBytes = 0
    if (this.#block !== undefined) {
      this.#block.pins--
      this.#pool.give(this.#block)
      this.#block = undefined
    }
    this.bytes = bytes
    this.at = from
    this.end = to
  }
}
