// Packs the replies of one connection. Small replies lie one behind the other in a block of memory and leave in one write;
// a read's bytes are filled in where they leave from, straight behind their header, so that nothing is copied.
// Always: a region belongs to one reply; a block is used again only after the kernel has all of it and no request in
// flight holds a region in it. Blocks are zeroed once, so that no foreign memory can reach the wire.

import assert from 'node:assert/strict'
import type { Socket } from 'node:net'

const blockBytes = 256 * 1024

/** Larger replies get memory of their own. */
export const packedReplyMaxBytes = 40 * 1024

export interface Block {
  readonly bytes: Buffer
  /** Regions held by requests in flight. */
  pins: number
}

export class Output {
  readonly #socket: Socket
  #block: Block | undefined
  /** The packed, unsent bytes of the block: from `#start` to `#end`. */
  #start = 0
  #end = 0
  #slices: Buffer[] = []
  #unsentBytes = 0

  constructor(socket: Socket) {
    this.#socket = socket
  }

  /** Bytes that are on their way to the client, but not yet with the kernel. */
  get queuedBytes(): number {
    return this.#socket.writableLength + this.#unsentBytes + this.#end - this.#start
  }

  /** A block with room for `lengthBytes` at `at`. Nothing is taken until commit() or detach() with the same length. */
  reserve(lengthBytes: number): Block {
    assert(lengthBytes <= blockBytes)
    if (this.#block !== undefined && this.#end + lengthBytes <= blockBytes) return this.#block
    this.flush()
    if (this.#block === undefined || this.#end + lengthBytes > blockBytes) {
      this.#block = { bytes: Buffer.alloc(blockBytes), pins: 0 }
      this.#start = 0
      this.#end = 0
    }
    return this.#block
  }

  get at(): number {
    return this.#end
  }

  /** The reserved region is complete. */
  commit(lengthBytes: number): void {
    this.#end += lengthBytes
  }

  /** The reserved region now belongs to a request in flight, until sendDetached() or dropDetached(). */
  detach(lengthBytes: number): void {
    this.#seal()
    this.#end += lengthBytes
    this.#start = this.#end
    this.#block!.pins++
  }

  sendDetached(block: Block, region: Buffer): void {
    block.pins--
    this.append(region)
  }

  dropDetached(block: Block): void {
    block.pins--
  }

  /** A reply with memory of its own. */
  append(bytes: Buffer): void {
    this.#seal()
    this.#slices.push(bytes)
    this.#unsentBytes += bytes.length
  }

  /** Gives everything packed to the socket, in one write. */
  flush(): void {
    this.#seal()
    const slices = this.#slices
    if (slices.length === 0) return
    this.#slices = []
    this.#unsentBytes = 0
    if (!this.#socket.writable) return
    if (slices.length === 1) {
      this.#socket.write(slices[0]!)
    } else {
      this.#socket.cork()
      for (const slice of slices) this.#socket.write(slice)
      this.#socket.uncork()
    }
    // A write that completed at once has left the block: the next batch uses it again.
    if (this.#block?.pins === 0 && this.#socket.writableLength === 0) {
      this.#start = 0
      this.#end = 0
    }
  }

  #seal(): void {
    if (this.#end === this.#start) return
    const slice = this.#block!.bytes.subarray(this.#start, this.#end)
    this.#start = this.#end
    this.#slices.push(slice)
    this.#unsentBytes += slice.length
  }
}
