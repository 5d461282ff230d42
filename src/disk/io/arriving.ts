// Guest I/O on a disk that this site owns and that is not all here. Blocks that are here are served from the file at once;
// a read of missing blocks waits for a demand fetch; a write aligned to sectors waits for no remote byte (promise 7).

import { blockSizeBytes } from '../../block/block-map.ts'
import { type Span, spanOf } from '../../block/span.ts'
import type { Run } from '../../block/units.ts'
import type { MaybePromise, PageTaker, StatusExtent, StatusKind, ZeroOptions } from '../../guest/export.ts'
import { sectorBytes } from '../../store/arrival-maps.ts'
import type { BlockFile } from '../../store/files.ts'
import type { Arrival } from '../arrival/arrival.ts'
import type { DemandFetch } from '../arrival/demand-fetch.ts'
import { isNoSpace } from '../room.ts'
import type { SyncGroup } from '../sync/sync-group.ts'
import { zeroFile } from '../zero-file.ts'
import { fileAllocation, type GuestIo, guestError } from './guest-io.ts'

/** What a request without payload, which may be of any length, does in one step. */
const stepBytes = 16 * 2 ** 20

export class ArrivingIo implements GuestIo {
  readonly #file: BlockFile
  readonly #syncs: SyncGroup
  readonly #arrival: Arrival
  readonly #demand: DemandFetch

  constructor(file: BlockFile, syncs: SyncGroup, arrival: Arrival, demand: DemandFetch) {
    this.#file = file
    this.#syncs = syncs
    this.#arrival = arrival
    this.#demand = demand
  }

  read(offset: number, target: Uint8Array): MaybePromise<void> {
    if (this.#arrival.isPresent(spanOf(offset, target.length))) return this.#file.read(offset, target)
    return this.#readMissing(offset, target)
  }

  readPages(offset: number, lengthBytes: number, pipe: PageTaker): boolean {
    if (!this.#arrival.isPresent(spanOf(offset, lengthBytes))) return false
    return this.#file.readPages?.(offset, lengthBytes, pipe) ?? false
  }

  async #readMissing(offset: number, target: Uint8Array): Promise<void> {
    const readHere = () => this.#file.read(offset, target)
    // After a failed sync the kernel drops what it likes: nothing more is kept here, so that nothing is read from here.
    if (this.#syncs.failure) return this.#demand.readThrough(offset, target, readHere)
    try {
      await this.#demand.ensure(offset, target.length)
      await readHere()
    } catch (error) {
      if (!isNoSpace(error)) throw error
      await this.#demand.readThrough(offset, target, readHere) // A read needs no room here.
    }
  }

  takesAtOnce(offset: number, lengthBytes: number): boolean {
    if (!isSectorAligned(offset, lengthBytes)) return false
    if (this.#arrival.claimOver(spanOf(offset, lengthBytes)) !== undefined) return false
    return this.#file.takesAtOnce?.(offset, lengthBytes) ?? false
  }

  write(offset: number, source: Uint8Array, fua: boolean): MaybePromise<void> {
    this.#refuseAfterFailedSync()
    const span = spanOf(offset, source.length)
    if (isSectorAligned(offset, source.length) && !this.#arrival.claimOver(span)) {
      const written = this.#writeClaimless(span, offset, source.length, () => this.#file.write(offset, source))
      if (written instanceof Promise) return fua ? written.then(() => this.flush()) : written
      return fua ? this.flush() : undefined
    }
    return this.#change(offset, source.length, fua, () => this.#file.write(offset, source))
  }

  /** Advisory: only whole blocks of the range are trimmed, the rest keeps its bytes. */
  async trim(offset: number, lengthBytes: number, fua: boolean): Promise<void> {
    this.#refuseAfterFailedSync()
    const isLast = offset + lengthBytes === this.#file.sizeBytes
    const from = Math.ceil(offset / blockSizeBytes) * blockSizeBytes
    const to = isLast ? this.#file.sizeBytes : Math.floor((offset + lengthBytes) / blockSizeBytes) * blockSizeBytes
    if (from < to) await this.#zero(from, to - from, { allocated: false })
    if (fua) await this.flush()
  }

  async writeZeroes(offset: number, lengthBytes: number, options: ZeroOptions): Promise<void> {
    this.#refuseAfterFailedSync()
    await this.#zero(offset, lengthBytes, { allocated: !options.mayPunch, fast: options.fast })
    if (options.fua) await this.flush()
  }

  /** In steps, each a change of its own: what the maps have to note of terabytes is noted with turns of others between. */
  async #zero(offset: number, lengthBytes: number, how: { allocated: boolean; fast?: boolean }): Promise<void> {
    for (const step of stepsOf(offset, lengthBytes)) {
      await this.#change(step.offset, step.length, false, () => zeroFile(this.#file, step.offset, step.length, how))
    }
  }

  flush(): Promise<void> {
    return this.#syncs.flush()
  }

  /** In steps: a prefetch of terabytes asks for no more at once than one of its steps, and ends with its client. */
  async cache(offset: number, lengthBytes: number, signal: AbortSignal): Promise<void> {
    for (const step of stepsOf(offset, lengthBytes)) {
      signal.throwIfAborted()
      await this.#demand.ensure(step.offset, step.length)
    }
  }

  status(kind: StatusKind, offset: number, lengthBytes: number, limit: number): readonly StatusExtent[] {
    if (kind === 'present') return this.#arrival.presentExtents(offset, lengthBytes, limit)
    if (kind === 'dirty') return this.#arrival.dirtyExtents(offset, lengthBytes, limit)
    return this.#allocation(offset, lengthBytes, limit)
  }

  /** What is missing counts as data: it is never called a hole before it has come. */
  #allocation(offset: number, lengthBytes: number, limit: number): readonly StatusExtent[] {
    const { run, knownBytes } = this.#arrival.firstLacking(offset, lengthBytes)
    if (!run) return fileAllocation(this.#file, offset, knownBytes, limit)
    if (run.offset > offset) return fileAllocation(this.#file, offset, run.offset - offset, limit)
    return [{ lengthBytes: Math.min(run.offset + run.length - offset, lengthBytes), status: 'data' }]
  }

  /** A guest write that may have to wait: for the sectors at its edges that it changes in part, and for landings. */
  async #change(offset: number, lengthBytes: number, fua: boolean, write: () => MaybePromise<void>): Promise<void> {
    const span = spanOf(offset, lengthBytes)
    for (;;) {
      if (offset % sectorBytes !== 0) await this.#ensureBlockAt(offset)
      if ((offset + lengthBytes) % sectorBytes !== 0) await this.#ensureBlockAt(offset + lengthBytes - 1)
      if (this.#lacksAnEdge(offset, lengthBytes)) continue // A comparison with the source found it wrong meanwhile.
      const claimed = this.#arrival.claimOver(span)
      if (!claimed) break
      await claimed
    }
    await this.#writeClaimless(span, offset, lengthBytes, write)
    if (fua) await this.flush()
  }

  /** Whether a sector that the range changes in part is not here. */
  #lacksAnEdge(offset: number, lengthBytes: number): boolean {
    const end = offset + lengthBytes
    const head = offset % sectorBytes !== 0 && !this.#arrival.isPresent(spanOf(offset, 1))
    return head || (end % sectorBytes !== 0 && !this.#arrival.isPresent(spanOf(end - 1, 1)))
  }

  async #ensureBlockAt(offset: number): Promise<void> {
    const start = offset - (offset % blockSizeBytes)
    await this.#demand.ensure(start, Math.min(blockSizeBytes, this.#file.sizeBytes - start))
  }

  /** In the synchronous step in which no landing claims the span: writes, then marks, then lets landings in again. */
  #writeClaimless(
    span: Span,
    offset: number,
    lengthBytes: number,
    write: () => MaybePromise<void>,
  ): MaybePromise<void> {
    const ticket = this.#arrival.beginWrite(span)
    try {
      const written = write()
      if (written instanceof Promise) {
        return written.then(() => ticket.done(offset, lengthBytes)).finally(() => ticket.release())
      }
      ticket.done(offset, lengthBytes)
    } catch (error) {
      ticket.release()
      throw error
    }
    ticket.release()
  }

  #refuseAfterFailedSync(): void {
    if (this.#syncs.failure)
      throw guestError(this.#syncs.failure, 'an earlier sync failed, the disk takes no more writes')
  }
}

/** A range cut at multiples of the step, so that a step's edges within the range are edges of blocks. */
function* stepsOf(offset: number, lengthBytes: number): Generator<Run> {
  const end = offset + lengthBytes
  for (let at = offset; at < end; ) {
    const next = Math.min(end, (Math.floor(at / stepBytes) + 1) * stepBytes)
    yield { offset: at, length: next - at }
    at = next
  }
}

function isSectorAligned(offset: number, lengthBytes: number): boolean {
  return offset % sectorBytes === 0 && lengthBytes % sectorBytes === 0
}
