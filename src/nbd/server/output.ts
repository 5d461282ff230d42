// Packs the replies of one connection. Small replies lie one behind the other in a block and leave in one write; a read's
// bytes are filled in where they leave from, straight behind their header, so that nothing is copied.
// Always: a region belongs to one reply; a block goes back only when the kernel has all of it and no request in flight
// holds a region in it. Replies leave in the order in which they were completed.

import assert from 'node:assert/strict'
import { type Block, type BlockLease, Packer, pieceBytes } from '../../guest/blocks.ts'
import type { Wire } from '../../guest/wire.ts'
import type { PagePipe } from '../../system/page-pipe.ts'

/** Sent by reference at once. Longer parts were not faster. */
const pagesMostBytes = 4 * pieceBytes

interface Slice {
  readonly bytes: Buffer
  /** Pinned for this slice. */
  readonly block: Block | undefined
}

export class Output {
  readonly #wire: Wire
  readonly #lease: BlockLease
  readonly #packer: Packer
  readonly #sent: () => void
  /** The packed, unsent bytes of the block begin here. */
  #start = 0
  #slices: Slice[] = []
  #unsentBytes = 0
  #pagesMaxBytes = pagesMostBytes
  /** A reply for which there was no room in a block. */
  #spare: Buffer | undefined

  /** `sent`: queued bytes have left. */
  constructor(wire: Wire, lease: BlockLease, sent: () => void) {
    this.#wire = wire
    this.#lease = lease
    this.#packer = new Packer(lease)
    this.#sent = sent
  }

  /** Bytes that are on their way to the client, but not yet with the kernel. */
  get queuedBytes(): number {
    return this.#wire.queuedBytes + this.unsentBytes
  }

  /** Bytes that the next flush() gives away. */
  get unsentBytes(): number {
    return this.#unsentBytes + this.#packer.at - this.#start
  }

  /** Room for one packed region. False: there is no memory for it now; who `waits` is told when there may be. */
  makeRoom(lengthBytes: number, waits = true): boolean {
    if (this.#packer.hasRoom(lengthBytes)) return true
    this.#seal()
    if (!this.#packer.next(waits)) return false
    this.#start = 0
    return true
  }

  /** The block and the place of a region for which makeRoom() was asked; it is taken by commit() or detach(). */
  get block(): Block {
    return this.#packer.block!
  }

  get at(): number {
    return this.#spare === undefined ? this.#packer.at : 0
  }

  /** Where a short reply is put, from `at` on, until commit(). There is always room: at worst, memory of its own. */
  reserve(lengthBytes: number): Buffer {
    if (this.makeRoom(lengthBytes, false)) return this.block.bytes
    this.#spare = Buffer.alloc(lengthBytes)
    return this.#spare
  }

  /** The region at `at` is complete. */
  commit(lengthBytes: number): void {
    const spare = this.#spare
    if (spare === undefined) {
      this.#packer.advance(lengthBytes)
      return
    }
    this.#spare = undefined
    assert(spare.length === lengthBytes)
    this.#slices.push({ bytes: spare, block: undefined })
    this.#unsentBytes += lengthBytes
  }

  /** A reply that was encoded elsewhere. */
  put(bytes: Buffer): void {
    bytes.copy(this.reserve(bytes.length), this.at)
    this.commit(bytes.length)
  }

  /** The region at `at` now belongs to a request in flight, until append() or drop() with its block. */
  detach(lengthBytes: number): Block {
    this.#seal()
    const { block } = this
    block.pins++
    this.#packer.advance(lengthBytes)
    this.#start = this.#packer.at
    return block
  }

  /** Blocks for a long reply. Nothing: there is no memory for it now; who `waits` is told when there may be. */
  take(count: number, waits = true): Block[] | undefined {
    return this.#lease.take(count, waits)
  }

  /** Sends a region; its pin goes with it. */
  append(block: Block, from: number, to: number): void {
    this.#seal()
    this.#slices.push({ bytes: block.bytes.subarray(from, to), block })
    this.#unsentBytes += to - from
  }

  /** How much to send by reference at once: less while the client leaves some of it, which takes memory. */
  get pagesMaxBytes(): number {
    return this.#pagesMaxBytes
  }

  /** For sendPages(). undefined: earlier bytes wait, or pages cannot go to this client by reference. */
  pipeForPages(): PagePipe | undefined {
    this.flush()
    return this.#wire.pipe
  }

  /**
   * Sends the head, [from, to) of the first block, and what the pipe holds. What the kernel does not take at once is copied
   * into the blocks, a piece into each, from `to` on; their pins go with it.
   */
  sendPages(blocks: readonly Block[], from: number, to: number, pipe: PagePipe): void {
    const head = blocks[0]!.bytes.subarray(from, to)
    const takenBytes = this.#wire.sendNow(head, true)
    if (takenBytes === head.length) this.#wire.sendPages(pipe)
    const hasLeft = pipe.heldBytes > 0
    this.#pagesMaxBytes = hasLeft ? pieceBytes : Math.min(2 * this.#pagesMaxBytes, pagesMostBytes)
    let start = from + takenBytes
    for (const block of blocks) {
      const end = to + pipe.drainTo(block.bytes.subarray(to, to + pieceBytes))
      if (start < end) this.append(block, start, end)
      else this.drop(block)
      start = to
    }
    assert(pipe.heldBytes === 0)
  }

  drop(block: Block): void {
    this.#lease.unpin(block)
  }

  /** Gives everything to the kernel, and what it does not take to the socket's queue. */
  flush(): void {
    this.#seal()
    const slices = this.#slices
    if (slices.length > 0) {
      this.#slices = []
      this.#unsentBytes = 0
      for (const slice of slices) this.#send(slice)
    }
    if (!this.#packer.isUnused) return
    this.#packer.leave()
    this.#start = 0
  }

  #send({ bytes, block }: Slice): void {
    const takenBytes = this.#wire.sendNow(bytes)
    if (takenBytes === bytes.length) {
      if (block !== undefined) this.#lease.unpin(block)
      return
    }
    this.#wire.queue(takenBytes === 0 ? bytes : bytes.subarray(takenBytes), () => {
      if (block !== undefined) this.#lease.unpin(block)
      this.#sent()
    })
  }

  #seal(): void {
    const end = this.#packer.at
    if (end === this.#start) return
    const { block } = this
    block.pins++
    const bytes = block.bytes.subarray(this.#start, end)
    this.#slices.push({ bytes, block })
    this.#unsentBytes += bytes.length
    this.#start = end
  }
}
