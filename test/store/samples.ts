// Records for tests: complete, and as little as each test needs to say.

import { join } from 'node:path'
import {
  type DiskRecord,
  type MigrationRecord,
  type MovedDisk,
  type PeerRecord,
  untouchedDisk,
  untouchedMigration,
  untouchedMovedDisk,
  untouchedPeer,
} from '../../src/store/records.ts'

export function diskRecord(facts: Partial<DiskRecord> = {}): DiskRecord {
  return {
    ...untouchedDisk,
    id: '33333333-3333-4333-8333-333333333333',
    name: 'web01',
    path: '/data/disks/web01.raw',
    folder: '/data/disks',
    sizeBytes: 2 ** 20,
    state: 'owned',
    generation: 1,
    owner: 'here',
    createdAt: '2026-01-01T00:00:00.000Z',
    ...facts,
  }
}

/** Of a disk in the data folder `root`. */
export function diskRecordIn(root: string, facts: Partial<DiskRecord> = {}): DiskRecord {
  return diskRecord({ path: join(root, 'disks/web01.raw'), folder: join(root, 'disks'), ...facts })
}

export function peerRecord(facts: Partial<PeerRecord> = {}): PeerRecord {
  return {
    ...untouchedPeer,
    fingerprint: 'ab'.repeat(32),
    site: 'there',
    name: 'tokyo',
    address: null,
    pairedAt: '2026-01-01T00:00:00.000Z',
    next: null,
    ...facts,
  }
}

export function movedDisk(facts: Partial<MovedDisk> = {}): MovedDisk {
  return {
    ...untouchedMovedDisk,
    id: '33333333-3333-4333-8333-333333333333',
    name: 'web01',
    sizeBytes: 2 ** 20,
    generation: 2,
    owner: 'there',
    ...facts,
  }
}

export const usualTerms = {
  mode: 'post-copy',
  switchover: 'auto',
  switchoverWaitMs: 10_000,
  maxRate: null,
  stallTimeoutMs: null,
  sourcePolicy: 'keep',
  force: false,
} as const

/** Of one disk, of which `disk` says more. */
export function migrationRecord(facts: Partial<MigrationRecord> = {}, disk: Partial<MovedDisk> = {}): MigrationRecord {
  return {
    ...untouchedMigration,
    id: '55555555-5555-4555-8555-555555555555',
    role: 'destination',
    peerId: 'ab'.repeat(32),
    peerSite: 'there',
    transport: 'tcp',
    disks: [movedDisk(disk)],
    terms: usualTerms,
    state: 'ready',
    startedAt: '2026-01-01T00:00:00.000Z',
    ...facts,
  }
}
