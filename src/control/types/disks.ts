// What is asked about disks, and what is answered.

import { z } from 'zod'
import { diskNamePattern, largestDiskBytes } from '../../disk/disk-name.ts'
import { type ImageFormat, imageFormats, titled } from '../../image/image-formats.ts'
import type { ErrorView } from './errors.ts'

export { imageFormats, titled }

/** An export's name has up to 4096 bytes, each of which may be escaped. */
const imageFromMaxLength = 16_384

export const diskName = z
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

export interface ReclaimedDiskView extends DiskView {
  /** Names of the peers that could not be asked for the disk's deed before. */
  readonly notAsked: readonly string[]
}

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
