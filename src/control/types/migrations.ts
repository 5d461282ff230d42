// What is asked about migrations, and what is answered and told.

import { z } from 'zod'
import {
  askedTerms,
  maximumDisks,
  maxRate,
  migrationModes,
  sourcePolicies,
  switchoverModes,
} from '../../migration/terms.ts'
import { diskName, type RangeView } from './disks.ts'
import type { ErrorView } from './errors.ts'
import type { LinkView } from './peers.ts'

export { migrationModes, sourcePolicies, switchoverModes }

const diskNamed = z.string().min(1).max(127)
const migrateFields = z.strictObject({
  /** One, or several that pass together: exactly one of `disk` and `disks`. */
  disk: diskNamed.optional(),
  disks: z.array(diskNamed).min(1).max(maximumDisks).optional(),
  /** A peer's name: `to` on the source, `from` on the destination. */
  to: z.string().max(127).optional(),
  from: z.string().max(127).optional(),
  ...askedTerms.shape,
  as: diskName.optional(),
})
export const migrateRequest = migrateFields
  .refine(
    ({ disk, disks }) => (disk === undefined) !== (disks === undefined),
    'exactly one of disk and disks says what is moved',
  )
  .refine(({ disks = [] }) => new Set(disks).size === disks.length, 'disks names a disk twice')
  .refine(
    (request) => (request.to === undefined) !== (request.from === undefined),
    'exactly one of to and from names the other site',
  )
  .refine(({ as, disks }) => as === undefined || disks === undefined, 'as names one disk')
  .refine(({ force, switchover }) => !force || switchover === 'now', 'force goes with a switchover now')
  .refine(({ as, disks = [] }) => as === undefined || disks.length <= 1, 'as names one disk')
  .transform(({ disk, disks, ...rest }) => ({ ...rest, disks: disks ?? [disk!] }))
export type MigrateRequest = z.input<typeof migrateRequest>
/** With the usual value of all that was not said; its disks in a list. */
export type CheckedMigrateRequest = z.output<typeof migrateRequest>

/** Of a switchover: also while a client works at the source. Of a cancel: also without an answer of the source. */
export const forceRequest = z.strictObject({ force: z.boolean().optional() })
export type ForceRequest = z.infer<typeof forceRequest>

/** What is to change of a migration that is under way. */
export const setRequest = z.strictObject({ maxRate: maxRate.nullable() })
export type SetRequest = z.infer<typeof setRequest>

/** Writes at a destination that does not own the disk yet, which wait for switchover. */
export interface HeldWritesView {
  /** As that site sees them; the first of them. */
  readonly clients: readonly string[]
  readonly since: string
  readonly why: string
}

/** Writes there that were refused (EPERM), because switchover did not come within --switchover-wait. */
export interface RefusedWritesView {
  readonly count: number
  /** Of the last. */
  readonly clients: readonly string[]
  readonly last: string
  readonly why: string
}

/**
 * preparing: nothing has changed for the guest. pre-copying: the destination serves and copies ahead, the source owns. ready: the
 * machine may move. switching: an acquire is
 * on its way. copying: the destination owns and fetches. finishing: every block is there, the source is being released.
 */
export type MigrationState =
  | 'preparing'
  | 'pre-copying'
  | 'ready'
  | 'switching'
  | 'copying'
  | 'finishing'
  | 'done'
  | 'cancelled'
  | 'failed'

/** How far disks are copied ahead of switchover. */
export interface AheadView {
  /** How often all was gone over. */
  readonly passes: number
  /** Bytes that the destination lacks, or that were written at the source since they were copied: what a switchover now would leave to be fetched. null: not known yet. */
  readonly leftBytes: number | null
  /** Since when the machine may move; null: not yet. */
  readonly readyAt: string | null
}

/** A disk of a migration. */
export interface MovedDiskView {
  readonly id: string
  readonly name: string
  /** The one that the migration leads to. */
  readonly generation: number
  /** The disk's at this site now; null: it is not here. */
  readonly state: string | null
  readonly owner: MigrationView['owner']
  readonly ownerName: MigrationView['ownerName']
  readonly ownerSide: MigrationView['ownerSide']
  /** It was superseded: the migration goes on for the others. */
  readonly hasLeft: boolean
  readonly bytes: MigrationView['bytes']
  readonly verified: boolean
  readonly unreadable: readonly RangeView[]
  readonly differed: readonly RangeView[]
  /**
   * At most 240 cells of equal size, a letter each, by what most of it is: `h` here at the destination, `a` copied ahead of
   * switchover, `w` written by the guest since, `s` at the source, `z` without bytes. null: not known.
   */
  readonly picture: string | null
}

/**
 * What stands beside `disks` is said of all of them together: bytes are sums, ranges are those of the first disk, then those of
 * the next; who owns is said of those that have not left.
 */
export interface MigrationView {
  readonly id: string
  /** Its name; of several: 'web01, web02'. */
  readonly disk: string
  readonly disks: readonly MovedDiskView[]
  readonly role: 'source' | 'destination'
  readonly peer: string
  readonly state: MigrationState
  readonly mode: string
  readonly switchover: string
  /** Bound of the background copy, in bytes a second; null: none. */
  readonly maxRate: number | null
  readonly transport: string
  readonly generation: number
  /** The id of the site that owns the disks, or owned them when the migration ended; or `unknown`. */
  readonly owner: string
  /** What this site calls it: `this site`, a peer's name, or `unknown`. */
  readonly ownerName: string
  /** Which of the two it is; `other`: a third. */
  readonly ownerSide: 'source' | 'destination' | 'other' | 'unknown'
  readonly bytes: {
    readonly disk: number
    /** Not zero and not hole, as far as known. */
    readonly data: number
    readonly sent: number
    readonly skippedZero: number
    readonly resent: number
    /** Data that did not travel, because the destination had it already. */
    readonly spared: number
    /** Still missing at the destination. */
    readonly missing: number
    /** Since switchover: what exists only at the source. */
    readonly exposed: number
  }
  readonly seconds: {
    readonly total: number
    readonly precopy: number
    readonly switchover: number
    readonly postcopy: number
    /** Of it, those in which the copy was not held: by a link that was down, a pause, a full disk. 0: not known. */
    readonly copying: number
  }
  /** Before switchover, where the disks are copied ahead of it; else null. */
  readonly ahead: AheadView | null
  /** Bytes a second over the last seconds, and seconds left at this rate (null: not known). */
  readonly rate: number
  readonly secondsLeft: number | null
  readonly verified: boolean
  /** The other site is connected. */
  readonly connected: boolean
  readonly link: LinkView
  /** Or null: none waits. */
  readonly held: HeldWritesView | null
  /** Or null: none was. */
  readonly refusedWrites: RefusedWritesView | null
  /** Clients that were at work at the source when --force took the disk from them: the first of them. */
  readonly cutOff: readonly string[]
  /** Ranges that the source's disk cannot read: the first of them. */
  readonly unreadable: readonly RangeView[]
  /** Ranges that differed from the source, and were fetched again: the first of them. */
  readonly differed: readonly RangeView[]
  /** The background copy is held by the operator. */
  readonly paused: boolean
  /** What it waits for, or what went wrong, in a sentence; or null. */
  readonly note: string | null
  readonly startedAt: string
  /** null: it is under way. */
  readonly endedAt: string | null
}

/** Bytes. What is spared is part of the data, and is not sent. */
export interface EstimatedBytes {
  readonly disk: number
  /** By extents, without zeros that stand there as data, as far as a look at some of it says. */
  readonly data: number
  /** Of it, what the destination has already, as far as a look at some of it says. */
  readonly spared: number
  readonly sent: number
}

/** What a move would cost: of all its disks together, and of each. */
export interface EstimateView {
  readonly disk: string
  readonly peer: string
  readonly bytes: EstimatedBytes
  readonly disks: readonly { readonly name: string; readonly bytes: EstimatedBytes }[]
  /** Free at the destination; what it has to keep is the data. */
  readonly free: number
  /** Bytes a second, as the last move between the two sites went, and within --max-rate; null: not known. */
  readonly rate: number | null
  /** null: not known. */
  readonly seconds: number | null
}

/** Events of a long command, one JSON document a line; the last is `result` or `error`. */
export type MigrationEvent =
  | {
      readonly type: 'step'
      readonly step: MigrationState
      readonly message: string
      readonly migration: MigrationView
    }
  | { readonly type: 'progress'; readonly migration: MigrationView }
  | { readonly type: 'ready'; readonly message: string; readonly migration: MigrationView }
  | {
      readonly type: 'switchover'
      readonly generation: number
      readonly seconds: number
      readonly migration: MigrationView
    }
  | ({ readonly type: 'result' } & MigrationView)
  | { readonly type: 'error'; readonly error: ErrorView }
