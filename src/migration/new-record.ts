// The record of a migration that begins, at either site, and what the source says to have the destination begin it.

import type { Disk } from '../disk/disk.ts'
import { type MigrationRecord, type MovedDisk, untouchedMigration, untouchedMovedDisk } from '../store/records.ts'
import type { Preparation } from './counterpart.ts'
import { type Terms, termsOf } from './terms.ts'

export interface Beginning {
  readonly id: string
  readonly role: MigrationRecord['role']
  readonly state: 'preparing' | 'ready'
  readonly disks: readonly BeginningDisk[]
  /** The site that owns the disks: the source. */
  readonly owner: string
  readonly peer: { readonly id: string; readonly site: string }
  readonly transport: string
  readonly terms: Terms
  readonly startedAt: string
  /** At the destination: the source's, as it said. */
  readonly sourceBoot?: string | undefined
  /** At the source: the word of the destination's operator decides too. */
  readonly peerDecides?: boolean
}

/** `generation`: the source's. */
export type BeginningDisk = Pick<MovedDisk, 'id' | 'name' | 'sizeBytes' | 'generation'>

export function newRecord(beginning: Beginning): MigrationRecord {
  const { id, role, state, disks, owner, peer, transport, terms, startedAt } = beginning
  return {
    ...untouchedMigration,
    id,
    role,
    peerId: peer.id,
    peerSite: peer.site,
    transport,
    disks: disks.map((disk) => ({
      ...untouchedMovedDisk,
      id: disk.id,
      name: disk.name,
      sizeBytes: disk.sizeBytes,
      generation: disk.generation + 1,
      owner,
    })),
    terms,
    state,
    startedAt,
    sourceBoot: beginning.sourceBoot ?? null,
    peerDecides: beginning.peerDecides ?? false,
  }
}

/** The record keeps the terms as the operator chose them. */
export function preparationOf(record: MigrationRecord, disks: readonly Disk[], boot: string): Preparation {
  const { as } = termsOf(record)
  return {
    migration: record.id,
    disks: disks.map((disk) => ({
      id: disk.id,
      name: disks.length === 1 ? (as ?? disk.name) : disk.name,
      sizeBytes: disk.sizeBytes,
      generation: disk.record.generation,
      allocatedBytes: disk.allocatedBytes(),
    })),
    terms: termsOf(record),
    boot,
  }
}
