// What two sites say to each other about a migration over a link: its calls, with the schemas by which each is checked where
// it arrives. Only over-link.ts knows them; what they mean is said in counterpart.ts.
//
//   generations  either way             claims
//   request      destination → source   start a migration (`migrate --from`)
//   deed         either way             the answer is a body: the deed as JSON
//   estimate     source → destination
//   prepare      source → destination
//   inquire      destination → source
//   acquire      destination → source   answered with a body where disks were copied before: their final maps, one after the other
//   track        destination → source
//   collect      destination → source   answered with a body: a map of blocks (block/map-codec.ts)
//   flush        destination → source
//   taken        destination → source
//   extents      destination → source
//   digests      destination → source
//   progress     destination → source
//   guests       destination → source
//   paused       destination → source
//   complete     destination → source
//   cancel       destination → source
//   cancelled    source → destination
//   switchover   source → destination
//   pause        source → destination
//   max-rate     source → destination
//   standing     source → destination
//   writers-gone source → destination

import { z } from 'zod'
import { blockSizeBytes } from '../block/block-size.ts'
import { maximumDeedBytes } from '../deed/deed.ts'
import { entryShape } from '../deed/entries.ts'
import { diskNamePattern, largestDiskBytes } from '../disk/disk-name.ts'
import { largestGeneration } from '../disk/states.ts'
import { maximumSamples } from './copy/sampling.ts'
import { cellBytes } from './copy/seed.ts'
import { digestedBytes, digestsAtOnce } from './copy/verification.ts'
import { namedClients, waitingGuests } from './held-writes.ts'
import { peerWords } from './peer-words.ts'
import { maximumDisks, maxRate, terms } from './terms.ts'
import { namedRanges } from './unreadable.ts'

/** Blocks in the answer to one `collect`: 1 TiB, of which little is data. */
export const collectedAtOnce = 2 ** 28
const maximumClaims = 10_000

const id = z.uuid()
const hash = z.string().regex(/^[0-9a-f]{64}$/)
/** What a destination signs of what it says. */
const signed = { by: z.string().max(200), signature: z.string().max(200) }
const bytes = z.number().int().nonnegative()
const generation = z.number().int().positive().max(largestGeneration)
const boot = z.string().min(1).max(100)
/** A peer's word becomes a file's name here. */
const name = z.string().regex(diskNamePattern)
const migration = { migration: id }
const diskAt = { disk: id, generation }
const run = { offset: bytes, length: bytes.positive() }
const epoch = z.uuid()
const round = z.number().int().nonnegative()
const blocks = z
  .number()
  .int()
  .max(largestDiskBytes / blockSizeBytes)
const copied = { epoch, confirmed: round, round }
const ranges = z.array(z.object(run)).max(namedRanges)
const counters = { data: bytes, sent: bytes, skippedZero: bytes, resent: bytes, spared: bytes.default(0) }

/** An entry for each disk of the move, each named once. */
function eachDisk<Shape extends z.ZodRawShape & { disk: typeof id }>(shape: Shape) {
  return z
    .array(z.object(shape))
    .min(1)
    .max(maximumDisks)
    .refine((entries) => new Set(entries.map((entry) => (entry as { disk: string }).disk)).size === entries.length, {
      error: 'a disk is named twice',
    })
}

export const nothing = z.object({})
export const migrationMessage = z.object(migration)

export const claimsMessage = z.object({
  claims: z.array(z.object({ disk: id, head: hash, length: z.number().int().positive() })).max(maximumClaims),
})

export const deedMessage = z.object({ disk: id, head: hash.nullable() })
export const deedAnswer = z.object({ bytes: bytes.positive().max(maximumDeedBytes) })
export type DeedAnswer = z.infer<typeof deedAnswer>
export const deedBytes = maximumDeedBytes

export const requestMessage = z.object({ disks: z.array(name).min(1).max(maximumDisks), terms })
export const requestAnswer = z.object(migration)

const offered = {
  id,
  name,
  sizeBytes: bytes.positive().multipleOf(512).max(largestDiskBytes),
  generation,
  allocatedBytes: bytes,
  head: hash,
}

function offeredDisks<Shape extends z.ZodRawShape & typeof offered>(shape: Shape) {
  return z
    .array(z.object(shape))
    .min(1)
    .max(maximumDisks)
    .refine((disks) => new Set(disks.map((disk) => (disk as { id: string }).id)).size === disks.length, {
      error: 'a disk is named twice',
    })
}

export const prepareMessage = z.object({ ...migration, disks: offeredDisks(offered), terms, boot })

const shortDigestText = z.string().length(24)
const sample = z.object({
  offset: bytes,
  cell: shortDigestText,
  blocks: z.array(shortDigestText).max(cellBytes / blockSizeBytes),
})
export const estimateMessage = z.object({
  disks: offeredDisks({ ...offered, samples: z.array(sample).max(maximumSamples) }),
  terms,
})
export const estimateAnswer = z.object({
  refusal: z.object({ code: peerWords(100), message: peerWords(1000) }).nullable(),
  freeBytes: bytes,
  sparedBytes: z.array(bytes).max(maximumDisks),
})

export const inquireAnswer = z.object({
  state: z.enum(['preparing', 'ready', 'departed', 'taken', 'released', 'cancelled', 'unknown']),
  writersAreGone: z.boolean(),
  sessions: z.number().int().nonnegative(),
  boot: boot.nullable(),
})

export const acquireMessage = z.object({
  ...migration,
  disks: eachDisk({ ...diskAt, copied: z.object({ ...copied, blocks: blocks.positive() }).exactOptional() }),
  reason: z.enum(['guest-write', 'reader-only', 'operator', 'resume']),
  force: z.boolean(),
})

const timeOfDay = peerWords(40)
const powerLoss = z.object({ since: timeOfDay, foundAt: timeOfDay.nullable() })

export const acquireAnswer = z.discriminatedUnion('answer', [
  z.object({
    answer: z.literal('granted'),
    /** `final`: its map comes in the body. */
    disks: eachDisk({
      ...diskAt,
      given: entryShape,
      powerLoss: powerLoss.nullable(),
      final: z.object({ epoch }).exactOptional(),
    }),
    boot: boot.nullable(),
    cutOff: z.array(peerWords(200)).max(namedClients),
  }),
  z.object({
    answer: z.literal('busy'),
    why: peerWords(1000),
    isAtWork: z.boolean(),
    isOwners: z.boolean().optional(),
  }),
  z.object({ answer: z.literal('refused'), code: peerWords(100), message: peerWords(1000) }),
])

export const trackMessage = z.object({ ...migration, ...diskAt, copied: z.object(copied).nullable() })
export const trackAnswer = z.object({ epoch, isSame: z.boolean(), round })

export const collectMessage = z.object({
  ...migration,
  ...diskAt,
  epoch,
  run: z.object(run),
  round: round.positive(),
  confirmed: round,
  most: z.number().int().positive().max(collectedAtOnce),
  hot: z.boolean(),
})
/** The blocks are the body. */
export const collectAnswer = z.object({ left: bytes })

export const flushMessage = z.object({ ...migration, ...diskAt })
export const flushAnswer = z.object({ boot })

export const takenMessage = z.object({
  ...migration,
  disks: eachDisk(diskAt),
  mark: z.number().int().positive(),
  run: z.uuid(),
  ...signed,
})

export const extentsMessage = z.object({ ...migration, ...diskAt, ...run })
/** Lengths in bytes, in turn from `offset` on; `data` false: a hole. */
export const extentsAnswer = z.object({
  extents: z
    .array(z.object({ length: bytes.positive(), data: z.boolean() }))
    .min(1)
    .max(4096),
})

export const digestsMessage = z.object({
  ...migration,
  ...diskAt,
  runs: z
    .array(z.object({ offset: bytes, length: bytes.positive().max(digestedBytes) }))
    .min(1)
    .max(digestsAtOnce),
  /** A digest of each so many bytes of each run, and a short one. */
  stepBytes: z.union([z.literal(blockSizeBytes), z.literal(cellBytes)]).optional(),
})
/** How many there are, one for each run, or each step of it. The digests are the answer's body, one after the other. */
export const digestsAnswer = z.object({
  digests: z
    .number()
    .int()
    .min(1)
    .max(digestsAtOnce * (digestedBytes / blockSizeBytes)),
})
export type DigestsAnswer = z.infer<typeof digestsAnswer>
export const digestBytes = 32

export const progressMessage = z.object({
  ...migration,
  disks: eachDisk({
    disk: id,
    missing: bytes,
    ...counters,
    unreadable: ranges,
    picture: z
      .string()
      .regex(/^[haswz]{0,240}$/)
      .nullish(),
  }),
  paused: z.boolean(),
  note: peerWords(1000).nullable(),
  rate: z.number().nonnegative(),
  secondsLeft: z.number().nonnegative().nullable(),
  copyingMs: bytes,
  ahead: z
    .object({ passes: z.number().int().nonnegative(), leftBytes: bytes.nullable(), isReady: z.boolean() })
    .nullable(),
})

const sent = { disks: z.array(z.object({ disk: id, sent: bytes, resent: bytes })).max(maximumDisks) }
/** To `progress`. A source that has forgotten says nothing. */
export const sentAnswer = z.object(sent)
export const completeAnswer = z.object({ ...sent, released: z.array(entryShape).max(maximumDisks) })

export const guestsMessage = z.object({ ...migration, guests: waitingGuests })
/** `paused` and `pause`. */
export const pauseMessage = z.object({ ...migration, paused: z.boolean() })
export const maxRateMessage = z.object({ ...migration, maxRate: maxRate.nullable() })

export const completeMessage = z.object({
  ...migration,
  disks: eachDisk({ ...diskAt, ...counters, verified: z.boolean(), differed: ranges }),
  copyingMs: bytes,
  ...signed,
})

export const cancelAnswer = z.object({ cancelled: z.boolean(), message: peerWords(1000) })
export const switchoverMessage = z.object({ ...migration, force: z.boolean() })

export const standingAnswer = z.object({
  state: peerWords(100),
  disks: z.array(z.object({ disk: id, generation: z.number().int().nonnegative() })).max(maximumDisks),
})
