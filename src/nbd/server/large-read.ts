// One long READ, piece by piece. With structured replies each piece leaves as a chunk of its own as soon as it was read,
// holes as OFFSET_HOLE (proto.md, "Structured reply types"); a simple reply, or one that may not be cut (DF), is collected
// first, because its header says whether all of it could be read.
// Always: a piece's bytes are there before its header is; the last chunk, and only the last, says DONE; after a failure
// no piece is begun, and the error is the answer once the pieces under way have settled.

import assert from 'node:assert/strict'
import { type Block, pieceBytes } from '../../guest/blocks.ts'
import type { ExportHandle } from '../../guest/export.ts'
import { ChunkFlag } from '../wire/constants.ts'
import { NbdError } from '../wire/error-values.ts'
import {
  holeChunkBytes,
  type ReplyStyle,
  writeOffsetDataHeader,
  writeOffsetHole,
  writeReadHead,
} from '../wire/reply-writers.ts'
import type { Request } from '../wire/transmission-codecs.ts'
import type { Output } from './output.ts'
import type { Segment } from './segments.ts'

/** Where a piece's bytes begin in its block: behind the longest header, on a cache line. */
const bytesAt = 64

/** Shorter parts are copied: a copy of so few bytes costs less than the calls to do without. */
const pagesMinBytes = 64 * 1024

export interface LargeReadOptions {
  readonly request: Request
  /** What the range consists of; without holes if `isWhole`. */
  readonly segments: readonly Segment[]
  readonly style: ReplyStyle
  /** One answer, not to be cut. */
  readonly isWhole: boolean
  readonly handle: ExportHandle
  readonly output: Output
  /** A piece that came late is in the output. */
  onLatePiece(): void
  /** Called once, when the answer is complete: with the output, or, with `failure`, still to be given. */
  onOver(failure: { readonly error: unknown } | undefined): void
}

export class LargeRead {
  readonly #options: LargeReadOptions
  #segment = 0
  /** Within the segment. */
  #atBytes = 0
  #outstanding = 0
  #failure: { readonly error: unknown } | undefined
  /** Of a whole answer: a block for each piece, taken before the first is read. */
  #blocks: Block[] | undefined
  #nextBlock = 0

  constructor(options: LargeReadOptions) {
    this.#options = options
  }

  get hasMore(): boolean {
    return this.#failure === undefined && this.#segment < this.#options.segments.length
  }

  /** Begins the next piece. False: there is no memory for it now. */
  begin(): boolean {
    assert(this.hasMore)
    const { segments, output, isWhole, style } = this.#options
    const segment = segments[this.#segment]!
    const offset = segment.offset + this.#atBytes
    if (segment.isHole) {
      if (!output.makeRoom(holeChunkBytes(style))) return false
      this.#advance(segment.lengthBytes)
      this.#sendHole(offset, segment.lengthBytes)
      return true
    }
    if (this.#sendPages(segment, offset)) return true
    const block = isWhole ? this.#blockOfWhole() : output.take(1)?.[0]
    if (block === undefined) return false
    const lengthBytes = Math.min(pieceBytes, segment.lengthBytes - this.#atBytes)
    this.#advance(lengthBytes)
    this.#read(block, offset, lengthBytes)
    return true
  }

  /** The client is gone: what is under way settles, nothing more is begun. */
  abandon(): void {
    if (!this.hasMore) return
    this.#failure = { error: new NbdError('ESHUTDOWN', 'the client is gone') }
    if (this.#outstanding === 0) this.#over()
  }

  #advance(lengthBytes: number): void {
    this.#atBytes += lengthBytes
    if (this.#atBytes < this.#options.segments[this.#segment]!.lengthBytes) return
    this.#segment++
    this.#atBytes = 0
  }

  /** What the page cache has goes to the client by reference, or the answer is an error. False: nothing was done. */
  #sendPages(segment: Segment, offset: number): boolean {
    const { request, output, isWhole, style, handle } = this.#options
    const leftBytes = segment.lengthBytes - this.#atBytes
    if (handle.readPages === undefined || leftBytes < pagesMinBytes || (isWhole && this.#blocks !== undefined))
      return false
    const pipe = output.pipeForPages()
    if (pipe === undefined) return false
    const mostBytes = isWhole ? leftBytes : Math.min(leftBytes, output.pagesMaxBytes)
    const lengthBytes = Math.min(mostBytes, pipe.roomBytes(offset))
    if (lengthBytes < pagesMinBytes || (isWhole && lengthBytes < request.lengthBytes)) return false
    // For what the client does not take at once.
    const blocks = output.take(Math.ceil(lengthBytes / pieceBytes), false)
    if (blocks === undefined) return false
    let isGiven = false
    try {
      isGiven = handle.readPages(offset, lengthBytes, pipe)
    } catch (error) {
      this.#failure = { error }
    }
    if (!isGiven) {
      for (const block of blocks) output.drop(block)
      if (this.#failure === undefined) return false
      if (this.#outstanding === 0) this.#over()
      return true
    }
    this.#advance(lengthBytes)
    const from = bytesAt - style.readHeadBytes
    if (isWhole) writeReadHead(blocks[0]!.bytes, from, style, request)
    else {
      const flags = this.#isComplete ? ChunkFlag.done : 0
      writeOffsetDataHeader(blocks[0]!.bytes, from, style, request, flags, offset, lengthBytes)
    }
    output.sendPages(blocks, from, bytesAt, pipe)
    if (this.#outstanding === 0 && !this.hasMore) this.#options.onOver(this.#failure)
    return true
  }

  #blockOfWhole(): Block | undefined {
    if (this.#blocks === undefined) {
      const pieces = Math.ceil(this.#options.request.lengthBytes / pieceBytes)
      this.#blocks = this.#options.output.take(pieces)
    }
    return this.#blocks?.[this.#nextBlock++]
  }

  #read(block: Block, offset: number, lengthBytes: number): void {
    const { handle } = this.#options
    try {
      const pending = handle.read(offset, block.bytes.subarray(bytesAt, bytesAt + lengthBytes))
      if (pending === undefined) {
        this.#arrived(block, offset, lengthBytes)
        return
      }
      this.#outstanding++
      pending.then(
        () => {
          this.#outstanding--
          this.#arrived(block, offset, lengthBytes)
          this.#options.onLatePiece()
        },
        (error: unknown) => {
          this.#outstanding--
          this.#failed(block, error)
        },
      )
    } catch (error) {
      this.#failed(block, error)
    }
  }

  #arrived(block: Block, offset: number, lengthBytes: number): void {
    const { request, output, isWhole, style } = this.#options
    if (!isWhole) {
      const flags = this.#isComplete ? ChunkFlag.done : 0
      const from = bytesAt - style.readHeadBytes
      writeOffsetDataHeader(block.bytes, from, style, request, flags, offset, lengthBytes)
      output.append(block, from, bytesAt + lengthBytes)
    }
    if (this.#outstanding === 0 && !this.hasMore) this.#over()
  }

  #sendHole(offset: number, lengthBytes: number): void {
    const { request, output, style } = this.#options
    const flags = this.#isComplete ? ChunkFlag.done : 0
    writeOffsetHole(output.block.bytes, output.at, style, request, flags, offset, lengthBytes)
    output.commit(holeChunkBytes(style))
    if (this.#outstanding === 0 && !this.hasMore) this.#over()
  }

  get #isComplete(): boolean {
    return this.#failure === undefined && this.#outstanding === 0 && !this.hasMore
  }

  #failed(block: Block, error: unknown): void {
    this.#failure ??= { error }
    if (!this.#options.isWhole) this.#options.output.drop(block)
    if (this.#outstanding === 0) this.#over()
  }

  #over(): void {
    if (this.#options.isWhole) this.#finishWhole()
    this.#options.onOver(this.#failure)
  }

  #finishWhole(): void {
    const { request, style, output } = this.#options
    const blocks = this.#blocks ?? []
    this.#blocks = undefined
    if (this.#failure !== undefined) {
      for (const block of blocks) output.drop(block)
      return
    }
    const { lengthBytes } = request
    const from = bytesAt - style.readHeadBytes
    writeReadHead(blocks[0]!.bytes, from, style, request)
    for (const [index, block] of blocks.entries()) {
      const partBytes = Math.min(pieceBytes, lengthBytes - index * pieceBytes)
      output.append(block, index === 0 ? from : bytesAt, bytesAt + partBytes)
    }
  }
}
