// What travels between a command and its daemon: the shapes of the control API. Requests are checked with these schemas
// by the server; views are plain JSON, and are what `--json` prints.

import { z } from 'zod'
import { diskNamePattern, largestDiskBytes } from '../disk/disk-name.ts'
import { type ImageFormat, imageFormats, titled } from '../image/image-formats.ts'
import { askedTerms, migrationModes, sourcePolicies, switchoverModes } from '../migration/terms.ts'

export { imageFormats, migrationModes, sourcePolicies, switchoverModes, titled }

/** Exit codes, and the codes of errors. Stable: scripts rely on them. */
export const ExitCode = {
  done: 0,
  other: 1,
  usage: 2,
  refused: 3,
  failedSourceOwns: 4,
  failedDestinationOwns: 5,
  ownerUnknown: 6,
  detached: 7,
} as const
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode]

/** An error as a sentence: what failed, on which disk, what is safe now, what to do next. */
export interface ErrorView {
  /** A stable symbolic name, such as `disk-exists`, `peer-unreachable`. */
  readonly code: string
  readonly message: string
  readonly exit: ExitCode
  readonly disk?: string
  readonly safe?: string
  readonly next?: string
}

/** Where, and with which `Upgrade`, a connection to the control socket becomes one of NBD. */
export const nbdPath = '/v1/nbd'
export const nbdProtocol = 'nbd'

/** An export's name has up to 4096 bytes, each of which may be escaped. */
const imageFromMaxLength = 16_384

const diskName = z
  .string()
  .regex(diskNamePattern, 'a name has 1 to 127 of: letters, digits, . _ - and starts with a letter or digit')
/** Multiples of a sector: what every hypervisor can use. */
const diskSize = z
  .number()
  .int()
  .positive()
  .multipleOf(512, 'a disk has a whole number of sectors of 512 bytes')
  .max(largestDiskBytes)

/** What a URI says is checked by whoever connects to it. */
const imageFrom = z
  .string()
  .max(imageFromMaxLength)
  .regex(/^(\/|nbds?(\+unix)?:\/\/)/i, 'an image is an absolute path, or a URI that begins with nbd')

const createDiskFields = z.strictObject({
  name: diskName,
  /** Optional with `from`: then the image's size. */
  sizeBytes: diskSize.optional(),
  /** Absolute path of an image at the daemon's host, or the URI of an export that the daemon can reach. */
  from: imageFrom.optional(),
  /** Of `from`; absent: told by the image itself. */
  format: z.enum(imageFormats).optional(),
})
export const createDiskRequest = createDiskFields.refine(
  ({ from, format }) => from !== undefined || format === undefined,
  'a format is that of the image to start from',
)
export type CreateDiskRequest = z.infer<typeof createDiskRequest>

export const inviteRequest = z.strictObject({
  address: z.string().max(1024).optional(),
  /** What this site will call the one that joins. */
  name: diskName.optional(),
})
export type InviteRequest = z.infer<typeof inviteRequest>

export const joinRequest = z.strictObject({ token: z.string().max(4096), name: diskName.optional() })
export type JoinRequest = z.infer<typeof joinRequest>

const migrateFields = z.strictObject({
  disk: z.string().min(1).max(127),
  /** A peer's name: `to` on the source, `from` on the destination. */
  to: z.string().max(127).optional(),
  from: z.string().max(127).optional(),
  ...askedTerms.shape,
})
export const migrateRequest = migrateFields
  .refine(
    (request) => (request.to === undefined) !== (request.from === undefined),
    'exactly one of to and from names the other site',
  )
  .refine(({ force, switchover }) => !force || switchover === 'now', 'force goes with a switchover now')
export type MigrateRequest = z.input<typeof migrateRequest>
/** With the usual value of all that was not said. */
export type CheckedMigrateRequest = z.output<typeof migrateRequest>

export const switchoverRequest = z.strictObject({ force: z.boolean().optional() })

export const cancelRequest = z.strictObject({ force: z.boolean().optional() })

/** `confirmed`: the operator knows what is lost, and that the guest at the destination is off. */
export const reclaimRequest = z.strictObject({ confirmed: z.boolean() })
export type ReclaimRequest = z.infer<typeof reclaimRequest>

/** `confirmed`: the operator knows what may be lost, and has checked the rest. */
export const acceptRequest = z.strictObject({ confirmed: z.boolean() })
export type AcceptRequest = z.infer<typeof acceptRequest>

/** `disk verify`: an arriving disk was compared with its source, by hash. */
export interface VerifyView {
  readonly disk: string
  readonly migration: string
  /** What this site calls the source. */
  readonly peer: string
  readonly bytes: {
    /** Data that was compared; holes come on top. */
    readonly compared: number
    /** Not here yet. */
    readonly missing: number
  }
  /** Ranges that differ. They are missing again, and fetched anew. */
  readonly differing: readonly RangeView[]
}

/** Bytes. */
export interface RangeView {
  readonly offset: number
  readonly length: number
}

/** How often, and when the last time. */
export interface CountView {
  readonly count: number
  readonly last: string
}

export interface DiskView {
  readonly name: string
  readonly id: string
  /** Bytes. */
  readonly size: number
  readonly state: string
  readonly generation: number
  /** The id of the site that owns the disk, the same wherever it is asked, or `unknown`. */
  readonly owner: string
  /** What this site calls the owner: `this site`, a peer's name, or `unknown`. */
  readonly ownerName: string
  readonly blockSize: number
  readonly present: { readonly blocks: number; readonly bytes: number }
  /** Bytes of it that exist only at the source of its migration: what would be lost with that site. */
  readonly exposed: number
  /** Bytes that the block file takes on its file system. */
  readonly allocated: number
  readonly path: string
  readonly sessions: number
  /** Guest writes since the daemon opened the disk. */
  readonly writes: number
  /** The id of the migration under way, or null. */
  readonly migration: string | null
  /** A sentence when the disk is not well (a failed sync), or null. */
  readonly trouble: string | null
  /** What guests were answered with since the daemon opened the disk, by error (`ENOSPC`, `EIO` …). */
  readonly guestErrors: Readonly<Record<string, CountView>>
}

/** Whether the other site is heard of. untried: nobody has wanted to speak with it since this site started. */
export interface LinkView {
  readonly state: 'up' | 'down' | 'untried'
  /** Since when; null: untried. */
  readonly since: string | null
  /** down: what broke it, or why it could not be reached last, in a sentence's end. */
  readonly why: string | null
}

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

export interface PeerView {
  readonly name: string
  readonly id: string
  readonly fingerprint: string
  readonly address: string | null
  readonly connected: boolean
  readonly link: LinkView
}

export interface SiteView {
  readonly id: string
  readonly name: string
  readonly version: string
  readonly fingerprint: string
  readonly nbd: readonly string[]
  readonly peer: string | null
  readonly control: string
  readonly root: string
}

export interface StatusView {
  readonly site: SiteView
  /** Connections of NBD clients that were refused since the daemon started, most often for there were too many; or null. */
  readonly refusedConnections: CountView | null
  readonly disks: readonly DiskView[]
  readonly peers: readonly PeerView[]
  readonly migrations: readonly MigrationView[]
}

export interface InviteView {
  readonly token: string
  readonly address: string
  readonly expiresAt: string
}

/**
 * preparing: nothing has changed for the guest. ready: the destination serves, the source owns. switching: an acquire is
 * on its way. copying: the destination owns and fetches. finishing: every block is there, the source is being released.
 */
export type MigrationState =
  | 'preparing'
  | 'ready'
  | 'switching'
  | 'copying'
  | 'finishing'
  | 'done'
  | 'cancelled'
  | 'failed'

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
  readonly bytes: MigrationView['bytes']
  readonly verified: boolean
  readonly differed: readonly RangeView[]
}

/** What stands beside `disks` is said of all of them together. */
export interface MigrationView {
  readonly id: string
  /** Its name. */
  readonly disk: string
  readonly disks: readonly MovedDiskView[]
  readonly role: 'source' | 'destination'
  readonly peer: string
  readonly state: MigrationState
  readonly mode: string
  readonly switchover: string
  readonly transport: string
  readonly generation: number
  /** The id of the site that owns the disk, or owned it when the migration ended; or `unknown`. */
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

export interface CreatedDiskView extends DiskView {
  /** What the image was taken for; null: there was none. */
  readonly format: ImageFormat | null
  /** What the operator may want to know of the image; sentences. */
  readonly notes: readonly string[]
}

/** Events of `disk create`, which may copy for a while. */
export type CreateEvent =
  | { readonly type: 'progress'; readonly bytes: { readonly done: number; readonly total: number } }
  | ({ readonly type: 'result' } & CreatedDiskView)
  | { readonly type: 'error'; readonly error: ErrorView }
