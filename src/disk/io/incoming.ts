// Guest I/O on a disk that the source still owns: reads are forwarded to it and nothing is kept (promise 3); the first
// guest write asks for switchover, waits for the answer, and goes on in whatever state the disk then has; a flush has the
// source sync what it has answered (promise 6: the guest that came over may have left writes behind that it never flushed).

import { blockSizeBytes } from '../../block/block-map.ts'
import { spanOf } from '../../block/span.ts'
import {
  type MaybePromise,
  type StatusExtent,
  type StatusKind,
  statusWords,
  type ZeroOptions,
} from '../../guest/export.ts'
import { copyPiece } from '../block-source.ts'
import type { IncomingPart } from '../remote-part.ts'
import type { GuestIo } from './guest-io.ts'

export class IncomingIo implements GuestIo {
  readonly #part: IncomingPart
  readonly #sizeBytes: number
  /** The disk's I/O now: this object, until the disk moves on. */
  readonly #current: () => GuestIo

  constructor(part: IncomingPart, sizeBytes: number, current: () => GuestIo) {
    this.#part = part
    this.#sizeBytes = sizeBytes
    this.#current = current
  }

  async read(offset: number, target: Uint8Array, signal: AbortSignal): Promise<void> {
    const span = spanOf(offset, target.length)
    const start = span.first * blockSizeBytes
    const run = { offset: start, length: Math.min(span.end * blockSizeBytes, this.#sizeBytes) - start }
    try {
      for await (const piece of this.#part.source.fetch([run], { urgency: 'demand', signal })) {
        copyPiece(piece, offset, target, { offset, length: target.length })
        if (this.#current() !== this) break
      }
    } catch (error) {
      if (this.#current() === this) throw error
    }
    // A reply made under the old generation counts for nothing once this site owns.
    if (this.#current() !== this) return this.#current().read(offset, target, signal)
  }

  /** A write waits for switchover. */
  takesAtOnce(): boolean {
    return false
  }

  async write(offset: number, source: Uint8Array, fua: boolean, signal: AbortSignal): Promise<void> {
    const io = await this.#afterSwitchover(signal)
    return io.write(offset, source, fua, signal)
  }

  async trim(offset: number, lengthBytes: number, fua: boolean, signal: AbortSignal): Promise<void> {
    const io = await this.#afterSwitchover(signal)
    return io.trim(offset, lengthBytes, fua, signal)
  }

  async writeZeroes(offset: number, lengthBytes: number, options: ZeroOptions, signal: AbortSignal): Promise<void> {
    const io = await this.#afterSwitchover(signal)
    return io.writeZeroes(offset, lengthBytes, options, signal)
  }

  async flush(signal: AbortSignal): Promise<void> {
    await this.#part.flushSource(signal)
    if (this.#current() !== this) await this.#current().flush(signal)
  }

  cache(): MaybePromise<void> {}

  /** All data, for a range that has not come yet is never called a hole; nothing present, and nothing changed here. */
  status(kind: StatusKind, _offset: number, lengthBytes: number): readonly StatusExtent[] {
    return [{ lengthBytes, status: statusWords[kind][0] }]
  }

  async #afterSwitchover(signal: AbortSignal): Promise<GuestIo> {
    while (this.#current() === this) await this.#part.askSwitchover(signal)
    return this.#current()
  }
}
