// The records of a site that must agree with each other: disks and their states, migrations, peers. A set of changes is
// committed as one transaction, and is durable once `commit` resolves. If it rejects, the next start may find it or not;
// once a later commit resolves, it will not: so a failed transaction never leaves half of itself below a later one.

import type { Deed } from '../deed/entries.ts'
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
  /** incoming: the epoch of the source's dirty map of which blocks are here tentatively (arrival/tentative.ts); null: none are. */
  readonly tentativeEpoch: string | null
  /** owned, arriving: under this boot, clients that outlive this host may have had writes answered that are not durable. */
  readonly unsynced: UnsyncedMark | null
  /** owned, arriving: power was lost while that was so, and the operator has not accepted it. */
  readonly powerLoss: PowerLossMark | null
  /**
   * Who gave the disk to whom, signed, as far as this site knows; what it gave itself is on record here before anybody learns of
   * it. null: the disk is on its way here and was never here before; or the record is of before deeds, and the next start signs one.
   */
  readonly deed: Deed | null
  /** incoming: the deed with which it was offered, verified. What the source gives has to follow it. */
  readonly offered: Deed | null
  /** superseded: a deed that forks from ours, so that nobody can say which of the two is valid. */
  readonly rival: Deed | null
  /** departed: the epoch of the map, beside its bytes, of what its destination lacks (dirty-map-file.ts); null: of everything. */
  readonly dirtyEpoch: string | null
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
  | 'migrationId'
  | 'servedFile'
  | 'before'
  | 'taken'
  | 'failedSync'
  | 'mapLog'
  | 'tentativeEpoch'
  | 'unsynced'
  | 'powerLoss'
  | 'deed'
  | 'offered'
  | 'rival'
  | 'dirtyEpoch'
> = {
  migrationId: null,
  servedFile: null,
  before: null,
  taken: false,
  failedSync: null,
  mapLog: null,
  tentativeEpoch: null,
  unsynced: null,
  powerLoss: null,
  deed: null,
  offered: null,
  rival: null,
  dirtyEpoch: null,
}

/**
 * A move of one or more disks, which pass together. Here is what is true of all of them: who moves them on which terms, how
 * far it is, what watchers are told. What may differ from disk to disk is in `disks`.
 */
export interface MigrationRecord {
  readonly id: string
  readonly role: 'source' | 'destination'
  /** Fingerprint and site id of the other site. */
  readonly peerId: string
  readonly peerSite: string
  readonly transport: string
  /** At least one, in the order in which the operator named them. */
  readonly disks: readonly MovedDisk[]
  /** What the operator chose: kept here, and understood by migration/terms.ts. */
  readonly terms: object
  /** A MigrationState of control/types.ts. */
  readonly state: string
  /** Who was attached to the source and not quiet when the operator's `--force` took the disks from them. */
  readonly cutOff: readonly string[]
  readonly note: string | null
  readonly startedAt: string
  /** When so little was left to copy ahead that the machine could move: from then on a guest's write switches over. null: not yet, or nothing was copied ahead. */
  readonly readyAt: string | null
  readonly switchedAt: string | null
  readonly endedAt: string | null
  readonly switchoverMs: number
  /** The operator holds the background copy. */
  readonly paused: boolean
  /** Destination, done: the source knows it. It does not when the operator ended the migration without it. */
  readonly sourceTold: boolean
  /** Destination: how often it has said, after putting it on record, that it serves. Source: the highest that it heard, and of which run. */
  readonly mark: number
  readonly markRun: string | null
  /** Source: with what the destination's key signed that mark, and that it has everything (migration/words-signed.ts). null: it did not. */
  readonly markSigned: string | null
  readonly completeSigned: string | null
  /** The boot id of the source's kernel. Destination: as last heard. Source: under which it gave the disks up. null: not known. */
  readonly sourceBoot: string | null
  /** How long the copy has copied, without what it was held for. */
  readonly copyingMs: number
  /** Writes at the destination that were refused before switchover; or null. */
  readonly refusedWrites: RefusedWritesRecord | null
  /** Source: the operator here has said that the destination takes over now; `force`: also from a client at work. */
  readonly ordered: { readonly force: boolean } | null
  /** Source: the word of the destination's operator counts as that of the operator here, unless it is forced. */
  readonly peerDecides: boolean
}

/** One disk of a move. Its state at this site is in its own record. */
export interface MovedDisk {
  /** UUID: the same at every site. */
  readonly id: string
  readonly name: string
  readonly sizeBytes: number
  /** The generation that the move leads to: the fencing token that the grant names. The source's is one less. */
  readonly generation: number
  /**
   * The site that owns the disk, as this side has put on record: it changes with switchover, and at the end it is who owned
   * then, as far as this site knew; or `unknown`. While an acquire is unanswered who owns is not on record but in memory.
   */
  readonly owner: string
  readonly counters: MigrationCounters
  /** Every block that the guest did not write at the destination was compared with the source. */
  readonly verified: boolean
  /** Ranges that differed from the source when they were compared, and were fetched again; the first of them. */
  readonly differed: readonly { readonly offset: number; readonly length: number }[]
  /** The generation under which the source took the disk back, because the destination was lost; or null. */
  readonly reclaimedAs: number | null
  /** It was superseded after the disks had passed: it is in the move no more, which goes on for the others. */
  readonly hasLeft: boolean
  /** The disk's record was deleted here since: its deed as it was then, so that older copies elsewhere are known by it. */
  readonly deed: Deed | null
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
  cutOff: [],
  note: null,
  readyAt: null,
  switchedAt: null,
  endedAt: null,
  switchoverMs: 0,
  paused: false,
  sourceTold: true,
  mark: 0,
  markRun: null,
  markSigned: null,
  completeSigned: null,
  sourceBoot: null,
  copyingMs: 0,
  refusedWrites: null,
  ordered: null,
  peerDecides: false,
} as const satisfies Partial<MigrationRecord>

/** A disk of such a migration. */
export const untouchedMovedDisk = {
  counters: { data: 0, sent: 0, skippedZero: 0, resent: 0 },
  verified: false,
  differed: [],
  reclaimedAs: null,
  hasLeft: false,
  deed: null,
} as const satisfies Partial<MovedDisk>

/** Bytes, as of the last time they were recorded. */
export interface MigrationCounters {
  readonly data: number
  readonly sent: number
  readonly skippedZero: number
  readonly resent: number
  /** Data that landed, and that was at the destination already. Absent: none, or written before it was counted. */
  readonly spared?: number
}

export interface PeerRecord {
  /** Hex SHA-256 of the peer's public key: what is pinned. */
  readonly fingerprint: string
  readonly site: string
  readonly name: string
  readonly address: string | null
  readonly pairedAt: string
  /** Disks of this site that the peer may have moved to itself, as the operator here has said. */
  readonly mayTake: readonly MayTake[]
  /** Those that the operator here has set; of the others the usual ones hold (migration/peer-rights.ts). */
  readonly limits: Partial<PeerLimits>
  /** The fingerprint of the key that the peer has said it will have, signed with the present one; or null. */
  readonly next: string | null
}

export interface MayTake {
  /** Its UUID, or `*`: every disk of this site, also those that are not there yet. */
  readonly disk: string
  /** Its operator says when: a switchover by hand there counts, unless it is forced. */
  readonly give: boolean
}

/** How much one peer may have of this site. */
export interface PeerLimits {
  /** Disks here that it has moved, or moves, to this site. */
  readonly disks: number
  /** Bytes that these disks have here, or that it says they will have. */
  readonly bytes: number
  /** Their sizes together, holes included. */
  readonly sizeBytes: number
  /** Requests of it that are open at once. */
  readonly calls: number
  /** Of these, questions for digests that are worked at: the others wait. */
  readonly digests: number
  /** Bytes an hour in connections of it that broke the protocol. */
  readonly junkBytes: number
}

/** A peer to which nothing was allowed. A record that lacks one of these was written before it was there, and means it. */
export const untouchedPeer: Pick<PeerRecord, 'mayTake' | 'limits' | 'next'> = {
  mayTake: [],
  limits: {},
  next: null,
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
