// Which I/O the guests of a disk get: the one place in which the states meet.
//
// What always holds: it may be chosen anew at any time, also without a change of state. What a state's I/O remembers of
// requests in flight (fetches that others wait for, whether the disk was left before this site owned it) is kept for as long
// as the state lasts. An owned disk's remembers nothing, so that it is made anew each time: with who watches guests' writes
// while the disk is copied before it departs (disk/departure), or without. Requests that began with the I/O before go on in it.

import assert from 'node:assert/strict'
import type { Piece } from '../../block/units.ts'
import { DemandFetch } from '../arrival/demand-fetch.ts'
import type { CommittedRecord } from '../committed-record.ts'
import type { DiskFiles } from '../disk-files.ts'
import type { RemotePart } from '../remote-part.ts'
import type { DiskState } from '../states.ts'
import type { SyncGroup } from '../sync/sync-group.ts'
import { ArrivingIo } from './arriving.ts'
import type { GuestIo } from './guest-io.ts'
import { IncomingIo } from './incoming.ts'
import { OwnedIo } from './owned.ts'
import { RefusedIo } from './refused.ts'
import { TrackedIo, type WriteWatch } from './tracked.ts'

/** What the I/O of any state may need of its disk. */
export interface IoParts {
  readonly record: CommittedRecord
  readonly files: DiskFiles
  readonly syncs: SyncGroup
  readonly remote: RemotePart | undefined
  /** Who watches guests' writes now, if anybody. */
  readonly tracking: { readonly watch: WriteWatch | undefined }
  /** Aborts when the disk closes. */
  readonly closed: AbortSignal
  land(piece: Piece): Promise<void>
}

export class IoOfState {
  readonly #parts: IoParts
  #now: GuestIo
  #state: DiskState | undefined

  constructor(parts: IoParts) {
    this.#parts = parts
    this.#now = new RefusedIo(`disk ${parts.record.now.name} is not open`, () => false)
  }

  get now(): GuestIo {
    return this.#now
  }

  /** The state that is on record has changed, or something else by which the I/O is chosen. */
  choose(): void {
    const state = this.#parts.record.now.state as DiskState
    if (state === 'owned') this.#now = this.#owned()
    else if (state !== this.#state) this.#now = this.#made(state)
    this.#state = state
  }

  /** Guests are served nothing any more. `isFlushed`: whether all that was ever answered is durable, or void. */
  refuse(sentence: string, isFlushed: () => boolean): void {
    this.#now = new RefusedIo(sentence, isFlushed)
  }

  /** The disk closes. Whoever was refused before goes on to hear why. */
  close(): void {
    if (this.#now instanceof RefusedIo) return
    this.refuse(`disk ${this.#parts.record.now.name} is closed`, () => false)
  }

  #owned(): GuestIo {
    const { files, syncs, tracking } = this.#parts
    assert(files.block)
    const { watch } = tracking
    return watch ? new TrackedIo(files.block, syncs, watch) : new OwnedIo(files.block, syncs)
  }

  #made(state: DiskState): GuestIo {
    const { record, files, syncs, remote, closed, land } = this.#parts
    const { name, sizeBytes, generation, owner } = record.now
    if (state === 'incoming') {
      assert(remote)
      return new IncomingIo(remote, sizeBytes, () => this.#now)
    }
    if (state === 'arriving') {
      const { block, arrival } = files
      assert(block && arrival && remote)
      return new ArrivingIo(block, syncs, arrival, new DemandFetch(arrival, remote.frozen, land, closed))
    }
    // Left before this site owned it: its source goes on, and what it has answered is not flushed from here.
    const isLeft = this.#now instanceof IncomingIo
    return new RefusedIo(`disk ${name} is ${state} here: generation ${generation} is served by ${owner}`, () => !isLeft)
  }
}
