// Has the payload of a WRITE written as it arrives. Bytes that the handle writes at once are given to it where the socket
// put them; all others are copied into a block that lasts until the handle has answered.

import assert from 'node:assert/strict'
import { type BlockLease, Packer, pieceBytes } from '../../guest/blocks.ts'
import type { ExportHandle } from '../../guest/export.ts'
import type { Request } from '../wire/transmission-codecs.ts'
import type { Input } from './input.ts'
import type { RequestRunner } from './request-runner.ts'
import { StreamedWrite } from './streamed-write.ts'

/** Of a piece that is written from where the socket put it. */
const atOnceMaxBytes = 1024 * 1024

export class PayloadWriter {
  readonly #handle: ExportHandle
  readonly #runner: RequestRunner
  readonly #lease: BlockLease
  readonly #packer: Packer
  #write: StreamedWrite | undefined

  constructor(handle: ExportHandle, runner: RequestRunner, lease: BlockLease) {
    this.#handle = handle
    this.#runner = runner
    this.#lease = lease
    this.#packer = new Packer(lease)
  }

  /** A request's payload has not arrived whole. */
  get isBusy(): boolean {
    return this.#write !== undefined
  }

  begin(request: Request): void {
    assert(this.#write === undefined)
    this.#write = new StreamedWrite(request)
  }

  /** The rest will not come. What is under way settles; nobody is answered. */
  abandon(): void {
    this.#write = undefined
    this.releaseUnused()
  }

  /** Takes the next piece. `missing`: more bytes must arrive. `held`: an answer, or memory, must come first. */
  take(input: Input): 'taken' | 'missing' | 'held' {
    const write = this.#write!
    let lengthBytes = write.nextPieceBytes(input.availableBytes, atOnceMaxBytes)
    if (lengthBytes === 0) return 'missing'
    if (write.failure === undefined && !this.#writeAtOnce(write, input, lengthBytes)) {
      lengthBytes = write.nextPieceBytes(input.availableBytes, pieceBytes)
      if (!this.#writeCopy(write, input.bytes.subarray(input.at, input.at + lengthBytes))) return 'held'
    }
    input.at += lengthBytes
    write.advance(lengthBytes)
    if (!write.isBegun) return 'taken'
    this.#write = undefined
    if (write.isOver) this.#answer(write)
    return 'taken'
  }

  /** A block in which nothing is under way goes back. */
  releaseUnused(): void {
    if (this.#packer.isUnused) this.#packer.leave()
  }

  /** False: nothing was done. */
  #writeAtOnce(write: StreamedWrite, input: Input, lengthBytes: number): boolean {
    if (write.isFua && write.isLast(lengthBytes)) return false
    if (this.#handle.takesAtOnce?.(write.offset, lengthBytes) !== true) return false
    try {
      const pending = this.#handle.write(write.offset, input.bytes.subarray(input.at, input.at + lengthBytes), false)
      assert(pending === undefined, 'a handle that takes a write at once keeps nothing of it')
    } catch (error) {
      write.failure = { error }
    }
    return true
  }

  #hasRoomFor(lengthBytes: number): boolean {
    if (this.#packer.hasRoom(lengthBytes)) return true
    // First this: with a bound of one block there would be no other.
    this.releaseUnused()
    return this.#packer.next()
  }

  /** False: held. */
  #writeCopy(write: StreamedWrite, source: Buffer): boolean {
    const fua = write.isFua && write.isLast(source.length)
    if (fua && write.outstanding > 0) return false
    if (!this.#hasRoomFor(source.length)) return false
    const block = this.#packer.block!
    const from = this.#packer.at
    source.copy(block.bytes, from)
    try {
      const pending = this.#handle.write(write.offset, block.bytes.subarray(from, from + source.length), fua)
      if (pending === undefined) return true
      block.pins++
      this.#packer.advance(source.length)
      write.outstanding++
      this.#runner.began()
      const settled = (): void => {
        write.outstanding--
        this.#lease.unpin(block)
        if (write.isOver) this.#answer(write)
        this.#runner.ended()
      }
      pending.then(settled, (error: unknown) => {
        write.failure ??= { error }
        settled()
      })
    } catch (error) {
      write.failure = { error }
    }
    return true
  }

  #answer({ request, failure }: StreamedWrite): void {
    if (failure === undefined) this.#runner.succeed(request)
    else this.#runner.fail(request, failure.error)
  }
}
