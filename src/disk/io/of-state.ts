// Which I/O the guests of a disk get in which of its states: the one place in which they meet.

import assert from 'node:assert/strict'
import type { Piece } from '../../block/units.ts'
import type { DiskRecord } from '../../store/records.ts'
import { DemandFetch } from '../arrival/demand-fetch.ts'
import type { BlockSource } from '../block-source.ts'
import type { DiskFiles } from '../disk-files.ts'
import type { DiskState } from '../states.ts'
import type { SyncGroup } from '../sync/sync-group.ts'
import { ArrivingIo } from './arriving.ts'
import type { GuestIo } from './guest-io.ts'
import { IncomingIo, type IncomingPart } from './incoming.ts'
import { OwnedIo } from './owned.ts'
import { RefusedIo } from './refused.ts'

/** What a disk needs of its migration while it is incoming or arriving. */
export interface RemotePart extends IncomingPart {
  /** The source's frozen bytes, once this site owns. */
  readonly frozen: BlockSource
}

/** What the I/O of any state may need of its disk. */
export interface IoParts {
  readonly files: DiskFiles
  readonly syncs: SyncGroup
  readonly remote: RemotePart | undefined
  /** Aborts when the disk closes. */
  readonly closed: AbortSignal
  land(piece: Piece): Promise<number>
  /** The I/O that the disk has at that moment. */
  current(): GuestIo
}

export function ioOf(state: DiskState, record: DiskRecord, parts: IoParts): GuestIo {
  const { remote, syncs, closed, current, land } = parts
  const { block, arrival } = parts.files
  if (state === 'owned') {
    assert(block)
    return new OwnedIo(block, syncs)
  }
  if (state === 'incoming') {
    assert(remote)
    return new IncomingIo(remote, record.sizeBytes, current)
  }
  if (state === 'arriving') {
    assert(block && arrival && remote)
    return new ArrivingIo(block, syncs, arrival, new DemandFetch(arrival, remote.frozen, land, closed))
  }
  const { name, generation, owner } = record
  // Left before this site owned it: its source goes on, and what it has answered is not flushed from here.
  const isLeft = current() instanceof IncomingIo
  return new RefusedIo(`disk ${name} is ${state} here: generation ${generation} is served by ${owner}`, () => !isLeft)
}
