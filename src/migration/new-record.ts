// The record of a migration that begins, at either site, and what the source says to have the destination begin it.

import type { Disk } from '../disk/disk.ts'
import { type MigrationRecord, untouchedMigration } from '../store/records.ts'
import type { Preparation } from './counterpart.ts'
import type { Terms } from './terms.ts'

export interface Beginning {
  readonly id: string
  readonly role: MigrationRecord['role']
  readonly state: 'preparing' | 'ready'
  readonly disk: { readonly id: string; readonly name: string; readonly sizeBytes: number; readonly generation: number }
  readonly peer: { readonly id: string; readonly site: string }
  readonly transport: string
  readonly terms: Terms
  readonly startedAt: string
  /** At the destination: the source's, as it said. */
  readonly sourceBoot?: string | undefined
}

export function newRecord(beginning: Beginning): MigrationRecord {
  const { id, role, state, disk, peer, transport, terms, startedAt } = beginning
  return {
    ...untouchedMigration,
    ...terms,
    force: terms.force ?? false,
    id,
    diskId: disk.id,
    diskName: disk.name,
    role,
    peerId: peer.id,
    peerSite: peer.site,
    transport,
    state,
    generation: disk.generation + 1,
    sizeBytes: disk.sizeBytes,
    startedAt,
    sourceBoot: beginning.sourceBoot ?? null,
  }
}

/** The record keeps the terms as the operator chose them. */
export function preparationOf(record: MigrationRecord, disk: Disk, boot: string): Preparation {
  return {
    migration: record.id,
    disks: [
      {
        id: disk.record.id,
        name: disk.name,
        sizeBytes: disk.sizeBytes,
        generation: disk.record.generation,
        allocatedBytes: disk.allocatedBytes(),
      },
    ],
    terms: {
      mode: 'post-copy',
      switchover: record.switchover as Terms['switchover'],
      switchoverWaitMs: record.switchoverWaitMs,
      maxRate: record.maxRate,
      stallTimeoutMs: record.stallTimeoutMs,
      sourcePolicy: record.sourcePolicy,
    },
    boot,
  }
}
