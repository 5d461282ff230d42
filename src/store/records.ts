// The records of a site that must agree with each other: disks and their states, migrations, peers. A set of changes is
// committed as one transaction, and is durable once `commit` resolves. If it rejects, the next start may find it or not;
// once a later commit resolves, it will not: so a failed transaction never leaves half of itself below a later one.

import type { MapLogMark } from './map-log-format.ts'

export interface DiskRecord {
  /** UUID: the same at every site. */
  readonly id: string
  readonly name: string
  /** Absolute path of the block file. */
  readonly path: string
  /** Absolute path of the folder that holds the maps; the block file too, unless it was served where it lies. */
  readonly folder: string
  readonly sizeBytes: number
  /** A word of disk/states.ts. */
  readonly state: string
  readonly generation: number
  /** The site that may serve `generation`, as far as this site knows. */
  readonly owner: string
  /** The migration that this disk is in, or null. */
  readonly migrationId: string | null
  /** `serve FILE`: the image, absolute. It may hold old bytes: `path` says where the disk's are. null for other disks. */
  readonly servedFile: string | null
  /** incoming, arriving: what the disk was here before it came back. Its old bytes are kept until it is owned again; owned: they are still to be removed. */
  readonly before: { readonly state: string; readonly path: string } | null
  /** departed: the holder of the generation has reported that it serves it. */
  readonly taken: boolean
  /** owned: a sync failed, and the operator has not accepted what is left. The disk is served for reading only. */
  readonly failedSync: FailedSyncMark | null
  /** arriving: how far the log of its maps was durable when the record was written; null: not known. */
  readonly mapLog: MapLogMark | null
  /** owned, arriving: under this boot, clients that outlive this host may have had writes answered that are not durable. */
  readonly unsynced: UnsyncedMark | null
  /** owned, arriving: power was lost while that was so, and the operator has not accepted it. */
  readonly powerLoss: PowerLossMark | null
  readonly createdAt: string
}

export interface UnsyncedMark {
  readonly bootId: string
  /** Time of day. */
  readonly since: string
}

export interface PowerLossMark {
  /** Time of day: from when on there were such writes. */
  readonly since: string
  /** Time of day of the start that found it; null: it is not on record yet. */
  readonly foundAt: string | null
}

/** Facts of a disk that are committed by themselves: who tells of one says nothing else of it. */
export type DiskMarks = Partial<Pick<DiskRecord, 'failedSync' | 'unsynced' | 'powerLoss'>>

export interface FailedSyncMark {
  /** Time of day. */
  readonly at: string
  /** What failed, as the file system said it. */
  readonly message: string
}

/** A disk to which nothing has happened. A record that lacks one of these was written before it was there, and means it. */
export const untouchedDisk: Pick<
  DiskRecord,
  'migrationId' | 'servedFile' | 'before' | 'taken' | 'failedSync' | 'mapLog' | 'unsynced' | 'powerLoss'
> = {
  migrationId: null,
  servedFile: null,
  before: null,
  taken: false,
  failedSync: null,
  mapLog: null,
  unsynced: null,
  powerLoss: null,
}

export interface MigrationRecord {
  readonly id: string
  readonly diskId: string
  readonly diskName: string
  readonly role: 'source' | 'destination'
  /** Fingerprint and site id of the other site. */
  readonly peerId: string
  readonly peerSite: string
  readonly transport: string
  /** A MigrationState of control/types.ts. */
  readonly state: string
  readonly mode: string
  readonly switchover: string
  readonly switchoverWaitMs: number
  /** Source: the operator's word, given at the beginning, holds though a client works here. */
  readonly force: boolean
  /** Who was attached to the source and not quiet when the operator's `--force` took the disk from them. */
  readonly cutOff: readonly string[]
  readonly maxRate: number | null
  /** How long a guest's read waits for a source that is away before it fails; null: for ever. */
  readonly stallTimeoutMs: number | null
  readonly sourcePolicy: 'keep' | 'delete'
  /** The generation before and after: the fencing token that the grant names is `generation`. */
  readonly generation: number
  readonly sizeBytes: number
  readonly counters: MigrationCounters
  readonly note: string | null
  readonly startedAt: string
  readonly switchedAt: string | null
  readonly endedAt: string | null
  readonly switchoverMs: number
  /** Every block that the guest did not write at the destination was compared with the source. */
  readonly verified: boolean
  /** Ranges that differed from the source when they were compared, and were fetched again; the first of them. */
  readonly differed: readonly { readonly offset: number; readonly length: number }[]
  /** The operator holds the background copy. */
  readonly paused: boolean
  /** Destination, done: the source knows it. It does not when the operator ended the migration without it. */
  readonly sourceTold: boolean
  /** The generation under which the source took the disk back, because the destination was lost; or null. */
  readonly reclaimedAs: number | null
  /** Destination: how often it has said, after putting it on record, that it serves. Source: the highest that it heard, and of which run. */
  readonly mark: number
  readonly markRun: string | null
  /** The boot id of the source's kernel. Destination: as last heard. Source: under which it gave the disk up. null: not known. */
  readonly sourceBoot: string | null
  /** The site that owned the disk when the migration ended, as far as this site knew; or `unknown`. null: it goes on, or ended before this was kept. */
  readonly endOwner: string | null
  /** How long the copy has copied, without what it was held for. */
  readonly copyingMs: number
  /** Writes at the destination that were refused before switchover; or null. */
  readonly refusedWrites: RefusedWritesRecord | null
}

export interface RefusedWritesRecord {
  readonly count: number
  /** Of the last: who, when (time of day) and why. */
  readonly clients: readonly string[]
  readonly last: string
  readonly why: string
}

/** A migration that has only begun. A record that lacks one of these was written before it was there, and means it. */
export const untouchedMigration = {
  stallTimeoutMs: null,
  counters: { data: 0, sent: 0, skippedZero: 0, resent: 0 },
  note: null,
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
  endOwner: null,
  copyingMs: 0,
  refusedWrites: null,
  sourceBoot: null,
  force: false,
  cutOff: [],
} as const satisfies Partial<MigrationRecord>

/** Bytes, as of the last time they were recorded. */
export interface MigrationCounters {
  readonly data: number
  readonly sent: number
  readonly skippedZero: number
  readonly resent: number
}

export interface PeerRecord {
  /** Hex SHA-256 of the peer's public key: what is pinned. */
  readonly fingerprint: string
  readonly site: string
  readonly name: string
  readonly address: string | null
  readonly pairedAt: string
}

export interface SiteRecords {
  readonly disks: readonly DiskRecord[]
  readonly migrations: readonly MigrationRecord[]
  readonly peers: readonly PeerRecord[]
}

export type Change =
  | { readonly put: 'disk'; readonly record: DiskRecord }
  | { readonly put: 'migration'; readonly record: MigrationRecord }
  | { readonly put: 'peer'; readonly record: PeerRecord }
  | { readonly mark: 'disk'; readonly id: string; readonly facts: DiskMarks }
  | { readonly remove: 'disk' | 'migration' | 'peer'; readonly id: string }

export interface Records {
  load(): Promise<SiteRecords>
  commit(changes: readonly Change[]): Promise<void>
  close(): Promise<void>
}
