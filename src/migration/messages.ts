// What two sites say to each other about a migration, on the control lane. Checked with these schemas where it arrives.
//
//   generations  either way             these disks moved between us, and I know of these generations (generations.ts)
//   request      destination → source   start a migration of a disk of yours to me (`migrate --from`)
//   prepare      source → destination   make an incoming disk
//   inquire      destination → source   how does this migration stand?
//   acquire      destination → source   give me generation g+1. Repeated until answered; answered the same each time
//   flush        destination → source   a guest flushes here: sync what you have answered
//   taken        destination → source   I serve g+1, durably. Said again every few seconds, with a higher mark
//   extents      destination → source   data and holes of the frozen disk
//   digests      destination → source   hashes of ranges of the frozen disk, to compare (in the answer's body)
//   progress     destination → source   how far I am (for the operator there)
//   guests       destination → source   writes of guests wait here for switchover, or were refused (held-writes.ts)
//   paused       destination → source   the background copy is held, or is not, by the operator here
//   complete     destination → source   I have every block, durably
//   cancel       destination → source   the operator here wants it cancelled: decide
//   cancelled    source → destination   it is cancelled, durably
//   switchover   source → destination   the operator here says: now
//   pause        source → destination   the operator here holds the background copy, or lets it go on
//   standing     source → destination   what is the disk there? (before it is taken back, and after a start)
//   writers-gone source → destination   every session that had written here has said DISC

import { z } from 'zod'
import { diskNamePattern, largestDiskBytes } from '../disk/disk-name.ts'
import { largestGeneration } from '../disk/states.ts'
import { digestedBytes, digestsAtOnce } from './copy/verification.ts'
import { namedClients, waitingGuests } from './held-writes.ts'
import { peerWords } from './peer-words.ts'
import { namedRanges } from './unreadable.ts'

const id = z.uuid()
const bytes = z.number().int().nonnegative()
const generation = z.number().int().positive().max(largestGeneration)
/** The boot id of a site's kernel: while it is the same, no power was lost. */
const boot = z.string().min(1).max(100)
/** A peer's word becomes a file's name here. */
const name = z.string().regex(diskNamePattern)

export const terms = z.object({
  mode: z.enum(['post-copy']),
  switchover: z.enum(['auto', 'now', 'manual']),
  switchoverWaitMs: z.number().int().min(0).max(86_400_000),
  maxRate: z.number().int().min(4096).nullable(),
  stallTimeoutMs: z.number().int().min(1).nullable(),
  sourcePolicy: z.enum(['keep', 'delete']),
  /** With `now`: also while a client works at the source. Kept there. */
  force: z.boolean().optional(),
})
/** What the operator chose for a migration. */
export type Terms = z.infer<typeof terms>

export const requestMessage = z.object({ disk: name, terms })
export const requestAnswer = z.object({ migration: id })

export const prepareMessage = z.object({
  migration: id,
  disk: z.object({
    id,
    name,
    sizeBytes: bytes.positive().multipleOf(512).max(largestDiskBytes),
    generation,
    allocatedBytes: bytes,
  }),
  terms,
  boot: boot.optional(),
})
export type PrepareMessage = z.infer<typeof prepareMessage>

export const migrationMessage = z.object({ migration: id })

export const acquireMessage = z.object({
  migration: id,
  generation,
  /** guest-write and reader-only ask only of a quiet source, `operator` of one where no client works, `resume` of any. */
  reason: z.enum(['guest-write', 'reader-only', 'operator', 'resume']),
  /** `operator`: of any. */
  force: z.boolean().optional(),
})
export type AcquireMessage = z.infer<typeof acquireMessage>

const timeOfDay = peerWords(40)
const powerLoss = z.object({ since: timeOfDay, foundAt: timeOfDay.nullable() })

export const acquireAnswer = z.discriminatedUnion('answer', [
  /**
   * `boot`: under which the source gave the disk up. `powerLoss`: what its operator has not accepted of it. `cutOff`: whose
   * writes were cut off, because the operator forced it.
   */
  z.object({
    answer: z.literal('granted'),
    generation,
    boot: boot.optional(),
    powerLoss: powerLoss.optional(),
    cutOff: z.array(peerWords(200)).max(namedClients).optional(),
  }),
  /** `isAtWork`: a client works there, and the operator has not forced it. */
  z.object({ answer: z.literal('busy'), why: peerWords(1000), isAtWork: z.boolean().optional() }),
  z.object({ answer: z.literal('refused'), code: peerWords(100), message: peerWords(1000) }),
])
export type AcquireAnswer = z.infer<typeof acquireAnswer>

export const inquireAnswer = z.object({
  state: z.enum(['preparing', 'ready', 'departed', 'taken', 'released', 'cancelled', 'unknown']),
  writersAreGone: z.boolean(),
  sessions: z.number().int().nonnegative(),
  boot: boot.optional(),
})
export type InquireAnswer = z.infer<typeof inquireAnswer>

export const switchoverMessage = z.object({ migration: id, force: z.boolean().optional() })
/** How a destination answers `switchover` when a client works at the source, and the operator has not forced it. */
export const atWorkCode = 'client-at-work'

export const guestsMessage = z.object({ migration: id, guests: waitingGuests })

/** `generation`: the one that the source still has. A source that is too old to know the message refuses it (`unknown-method`). */
export const flushMessage = z.object({ migration: id, generation })
export const flushAnswer = z.object({ boot })
export type FlushAnswer = z.infer<typeof flushAnswer>

export const pauseMessage = z.object({ migration: id, paused: z.boolean() })

/** `unknown`: that site knows nothing of the migration. */
export const standingAnswer = z.object({ state: peerWords(100), generation: z.number().int().nonnegative() })
export type StandingAnswer = z.infer<typeof standingAnswer>

/**
 * `mark` grows with every message, and is on record at the destination before it is said; `run`: that daemon's run. The
 * source keeps both: a destination that comes with a mark which another run has said already is an old copy.
 */
export const takenMessage = z.object({ migration: id, generation, mark: z.number().int().positive(), run: z.uuid() })

export const extentsMessage = z.object({ migration: id, generation, offset: bytes, length: bytes.positive() })
export const digestsMessage = z.object({
  migration: id,
  generation,
  runs: z
    .array(z.object({ offset: bytes, length: bytes.positive().max(digestedBytes) }))
    .min(1)
    .max(digestsAtOnce),
})
/** How many there are, one for each run. The digests are the answer's body: SHA-256, one after the other. */
export const digestsAnswer = z.object({ digests: z.number().int().min(1).max(digestsAtOnce) })
export type DigestsAnswer = z.infer<typeof digestsAnswer>
export const digestBytes = 32

/** Lengths in bytes, in turn from `offset` on; `data` false: a hole. */
export const extentsAnswer = z.object({
  extents: z
    .array(z.object({ length: bytes.positive(), data: z.boolean() }))
    .min(1)
    .max(4096),
})

const ranges = z.array(z.object({ offset: bytes, length: bytes.positive() })).max(namedRanges)

const counters = { data: bytes, sent: bytes, skippedZero: bytes, resent: bytes }

export const completeMessage = z.object({
  migration: id,
  generation,
  ...counters,
  verified: z.boolean(),
  differed: ranges,
  /** Since then: figures for people. */
  copyingMs: bytes.optional(),
})

/** To `progress` and `complete`: what the source has sent, as it counts. A source that has forgotten says nothing. */
export const sentAnswer = z.object({ sent: bytes, resent: bytes }).partial()

export const progressMessage = z.object({
  migration: id,
  missing: bytes,
  ...counters,
  paused: z.boolean(),
  unreadable: ranges,
  note: peerWords(1000).nullable(),
  /** Since then: figures for people. Without them there is no telling how long it takes. */
  rate: z.number().nonnegative().optional(),
  secondsLeft: z.number().nonnegative().nullable().optional(),
  copyingMs: bytes.optional(),
})

export const cancelAnswer = z.object({ cancelled: z.boolean(), message: peerWords(1000) })
