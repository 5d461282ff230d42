// What a peer has placed at this site, against what it may: disks that it has moved here, or moves, or is about to.
//
// What always holds: what is being admitted counts from the step in which it was looked at. Ids of migrations are used once: one
// that is known here, under way or past, in whatever role and with whatever peer, is nobody's to use again.

import type { Disk } from '../../disk/disk.ts'
import { PeerRefusal } from '../../link/channel.ts'
import type { MigrationRecord, PeerLimits } from '../../store/records.ts'
import type { OfferedDisk } from '../counterpart.ts'
import type { PeerRights } from '../peer-rights.ts'

/** Of one peer. */
export type Placed = Pick<PeerLimits, 'disks' | 'bytes' | 'sizeBytes'>

const placedStates: readonly string[] = ['incoming', 'arriving', 'owned']

/** Disks that a peer has moved here, and that did not move on since. */
export function placedBy(peerId: string, disks: readonly Disk[], migrations: readonly MigrationRecord[]): Placed {
  const theirs = new Map<string, Set<string | number>>()
  for (const { id: move, role, peerId: from, disks: moved } of migrations) {
    if (from !== peerId || role !== 'destination') continue
    for (const { id, generation, hasLeft } of moved) {
      if (hasLeft) continue
      theirs.set(id, (theirs.get(id) ?? new Set()).add(move).add(generation))
    }
  }
  const isTheirs = ({ id, record: { migrationId, generation } }: Disk) =>
    theirs.get(id)?.has(migrationId ?? generation) === true
  const placed = disks.filter((disk) => placedStates.includes(disk.state) && isTheirs(disk))
  return {
    disks: placed.length,
    bytes: placed.reduce((sum, disk) => sum + (disk.hasOpenFile ? disk.allocatedBytes() : 0), 0),
    sizeBytes: placed.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
  }
}

export class Placements {
  readonly #migrations = new Set<string>()
  readonly #offers = new Set<{ readonly peerId: string; readonly disks: readonly OfferedDisk[] }>()

  /** Nobody else uses this id while its migration is admitted. @throws PeerRefusal */
  claimId(migration: string): Disposable {
    if (this.#migrations.has(migration)) throw knownMigration(migration)
    this.#migrations.add(migration)
    return { [Symbol.dispose]: () => this.#migrations.delete(migration) }
  }

  /** Of what the peer may place here, until these disks are among those that it has placed. @throws PeerRefusal */
  claim(peerId: string, rights: PeerRights, placed: Placed, disks: readonly OfferedDisk[]): Disposable {
    const offered = [
      ...[...this.#offers].filter((each) => each.peerId === peerId).flatMap((each) => each.disks),
      ...disks,
    ]
    const wanted: Placed = {
      disks: placed.disks + offered.length,
      bytes: placed.bytes + offered.reduce((sum, { allocatedBytes }) => sum + allocatedBytes, 0),
      sizeBytes: placed.sizeBytes + offered.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    }
    for (const limit of ['disks', 'bytes', 'sizeBytes'] as const) {
      if (wanted[limit] <= rights.limits[limit]) continue
      rights.reached(limit)
      throw overLimit(limit, wanted[limit], rights.limits[limit])
    }
    const offer = { peerId, disks }
    this.#offers.add(offer)
    return { [Symbol.dispose]: () => this.#offers.delete(offer) }
  }
}

export function knownMigration(migration: string): PeerRefusal {
  return new PeerRefusal('migration-known', `migration ${migration} is known there, and is no new one`)
}

/** These figures are the peer's own. */
function overLimit(limit: keyof Placed, wanted: number, most: number): PeerRefusal {
  const what = {
    disks: (count: number) => `${count} disks`,
    bytes: (count: number) => `${count} bytes`,
    sizeBytes: (count: number) => `disks of ${count} bytes together, holes included`,
  }[limit]
  const message = `that site takes at most ${what(most)} from this one, and it would have ${what(wanted)}; its operator says how much: vmstore peer allow`
  return new PeerRefusal('over-limit', message)
}
