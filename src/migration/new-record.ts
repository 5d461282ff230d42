// The record of a migration that begins, at either site, and the message by which the source has the destination begin it.

import type { Disk } from '../disk/disk.ts'
import type { MigrationRecord } from '../store/records.ts'
import type { PrepareMessage, Terms } from './messages.ts'

export interface Beginning {
  readonly id: string
  readonly role: MigrationRecord['role']
  readonly state: 'preparing' | 'ready'
  readonly disk: { readonly id: string; readonly name: string; readonly sizeBytes: number; readonly generation: number }
  readonly peer: { readonly id: string; readonly site: string }
  readonly transport: string
  readonly terms: Terms
  readonly startedAt: string
}

export function newRecord(beginning: Beginning): MigrationRecord {
  const { id, role, state, disk, peer, transport, terms, startedAt } = beginning
  return {
    id,
    diskId: disk.id,
    diskName: disk.name,
    role,
    peerId: peer.id,
    peerSite: peer.site,
    transport,
    state,
    mode: terms.mode,
    switchover: terms.switchover,
    switchoverWaitMs: terms.switchoverWaitMs,
    maxRate: terms.maxRate,
    stallTimeoutMs: terms.stallTimeoutMs,
    sourcePolicy: terms.sourcePolicy,
    generation: disk.generation + 1,
    sizeBytes: disk.sizeBytes,
    counters: { data: 0, sent: 0, skippedZero: 0, resent: 0 },
    note: null,
    startedAt,
    switchedAt: null,
    endedAt: null,
    switchoverMs: 0,
    verified: false,
    differed: [],
    paused: false,
    sourceTold: true,
    reclaimedAs: null,
    mark: 0,
    markRun: null,
  }
}

/** The record keeps the terms as the operator chose them. */
export function prepareMessageOf(record: MigrationRecord, disk: Disk): PrepareMessage {
  return {
    migration: record.id,
    disk: {
      id: disk.record.id,
      name: disk.name,
      sizeBytes: disk.sizeBytes,
      generation: disk.record.generation,
      allocatedBytes: disk.allocatedBytes(),
    },
    terms: {
      mode: 'post-copy',
      switchover: record.switchover as Terms['switchover'],
      switchoverWaitMs: record.switchoverWaitMs,
      maxRate: record.maxRate,
      stallTimeoutMs: record.stallTimeoutMs,
      sourcePolicy: record.sourcePolicy,
    },
  }
}
