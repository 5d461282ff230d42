// The states of a disk at one site, the legal moves between them, and what each promises.
//
// owned       every block is here; guests read and write. In one generation one site owns (promise 1).
// departed    the right to serve generation g+1 was given to a peer, durably, before that peer could learn of it
//             (promise 2). Guests are refused; blocks are served to the holder of g+1 only.
// released    that peer has every block, durably. The bytes stay as a seed or are gone. So does what was copied here by a move
//             that was cancelled: the peer has the whole disk then too.
// incoming    the disk is being moved here; the source owns. Reads are forwarded (promise 3), the first guest write asks
//             for switchover.
// arriving    this site owns, and fetches what is missing. It cannot be migrated on.
// gone        the migration was cancelled at the source; nothing of it stays here. A disk that was coming back is again
//             what it was before, with the bytes that it had.
// superseded  a higher generation exists elsewhere; guests are refused, bytes are kept.
//
// `freezing` is no durable state: it lies between owned and departed while guest requests are held (disk/gate.ts). A site
// that dies in it comes back as what its last durable record says: owned if no grant was committed, else departed.

import assert from 'node:assert/strict'
import type { DiskRecord } from '../store/records.ts'

export const diskStates = ['owned', 'departed', 'released', 'incoming', 'arriving', 'gone', 'superseded'] as const
export type DiskState = (typeof diskStates)[number]

const moves: Readonly<Record<DiskState, readonly DiskState[]>> = {
  owned: ['departed', 'superseded'],
  departed: ['released', 'owned', 'superseded'],
  released: ['incoming', 'superseded'],
  incoming: ['arriving', 'gone', 'released', 'superseded'],
  arriving: ['owned', 'superseded'],
  gone: [],
  superseded: ['incoming'],
}

/** No disk moves so often: a peer that speaks of a higher one is not believed. What is added to it stays a whole number. */
export const largestGeneration = 2 ** 48

/** The owner of a disk while a grant was asked for and not answered. */
export const unknownOwner = 'unknown'

export function isDiskState(word: string): word is DiskState {
  return (diskStates as readonly string[]).includes(word)
}

/** The record after a move. Illegal moves and generations that go back are bugs of ours. */
export function moved(
  record: DiskRecord,
  to: DiskState,
  facts: Partial<Omit<DiskRecord, 'id' | 'state'>> = {},
): DiskRecord {
  assert(isDiskState(record.state) && moves[record.state].includes(to), `no disk goes from ${record.state} to ${to}`)
  const next = { ...record, ...facts, state: to }
  assert(next.generation >= record.generation, 'a generation never goes back')
  return next
}
