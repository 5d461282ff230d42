// The memory in which payloads and replies lie: blocks of one size, used again and again, because fresh memory for each
// large request costs more (zeroing, garbage collection) than the request itself. One pool for each export, by its id.
// Always: what a block held before was of the same export, whose clients may all read it; a block is zeroed when it is
// made; a connection has at most its bound of blocks, all of them counted in the server's budget.

import assert from 'node:assert/strict'
import type { Export } from './export.ts'
import type { BudgetMember, MemoryBudget } from './memory-budget.ts'

/** Largest piece in which a long read or write goes to the disk: it stays in the processor's second-level cache. */
export const pieceBytes = 256 * 1024

/** A piece and the heads of the replies before it. */
export const blockBytes = pieceBytes + 4096

/** Blocks that a pool keeps while nobody uses them. */
const idleBlocksMax = 16

export interface Block {
  readonly bytes: Buffer
  /** Regions in use, and one more while it is being packed. At 0 it goes back. */
  pins: number
}

export class BlockPool {
  readonly #idle: Block[] = []

  /** The one that was used last: it is likeliest to be in the cache. */
  take(): Block {
    const block = this.#idle.pop() ?? { bytes: Buffer.alloc(blockBytes), pins: 0 }
    block.pins = 1
    return block
  }

  give(block: Block): void {
    assert(block.pins === 0)
    if (this.#idle.length < idleBlocksMax) this.#idle.push(block)
  }
}

type Identified = Pick<Export, 'id'>

/** The pools of a server, one for each export that has sessions. */
export class BlockPools {
  readonly #pools = new Map<string, { readonly pool: BlockPool; sessions: number }>()

  take(of: Identified): BlockPool {
    const entry = this.#pools.get(of.id) ?? { pool: new BlockPool(), sessions: 0 }
    this.#pools.set(of.id, entry)
    entry.sessions++
    return entry.pool
  }

  giveBack(of: Identified): void {
    const entry = this.#pools.get(of.id)
    assert(entry !== undefined)
    entry.sessions--
    if (entry.sessions === 0) this.#pools.delete(of.id)
  }
}

/** The blocks of one connection that are in use. */
export class BlockLease {
  readonly #pool: BlockPool
  readonly #budget: MemoryBudget
  readonly #member: BudgetMember
  readonly #maxBlocks: number
  #heldBlocks = 0

  constructor(pool: BlockPool, budget: MemoryBudget, member: BudgetMember, maxBytes: number) {
    this.#pool = pool
    this.#budget = budget
    this.#member = member
    this.#maxBlocks = Math.max(1, Math.floor(maxBytes / pieceBytes))
  }

  /**
   * `count` blocks, each with one pin. Nothing: too many are held (try again when one was given back), or the server's
   * memory is used up (the member is told, if it `waits`). Whoever holds none gets as many as it needs.
   */
  take(count: number, waits = true): Block[] | undefined {
    if (this.#heldBlocks > 0 && this.#heldBlocks + count > this.#maxBlocks) return undefined
    if (!this.#budget.tryTake(count * blockBytes, waits ? this.#member : undefined)) return undefined
    this.#heldBlocks += count
    return Array.from({ length: count }, () => this.#pool.take())
  }

  unpin(block: Block): void {
    block.pins--
    if (block.pins > 0) return
    this.#heldBlocks--
    this.#budget.give(blockBytes)
    this.#pool.give(block)
  }
}

/** Packs regions one behind the other into blocks of a lease. */
export class Packer {
  readonly #lease: BlockLease
  #block: Block | undefined
  #end = 0

  constructor(lease: BlockLease) {
    this.#lease = lease
  }

  get block(): Block | undefined {
    return this.#block
  }

  /** Where the next region begins. */
  get at(): number {
    return this.#end
  }

  hasRoom(lengthBytes: number): boolean {
    return this.#block !== undefined && this.#end + lengthBytes <= blockBytes
  }

  /** Goes on in another block. False: there is none now, and who `waits` is told when to try again. */
  next(waits = true): boolean {
    const taken = this.#lease.take(1, waits)
    if (taken === undefined) return false
    this.leave()
    this.#block = taken[0]
    this.#end = 0
    return true
  }

  advance(lengthBytes: number): void {
    this.#end += lengthBytes
    assert(this.#end <= blockBytes)
  }

  /** Nobody uses a region any more: the block begins anew, or goes back. */
  get isUnused(): boolean {
    return this.#block?.pins === 1
  }

  leave(): void {
    if (this.#block === undefined) return
    const block = this.#block
    this.#block = undefined
    this.#end = 0
    this.#lease.unpin(block)
  }
}
