// The other site, typed: what may be asked of it and told to it, by meaning. How it is reached is its implementation's: a
// link (over-link.ts), or whatever else brings an answer. A site answers by the same interfaces, at its own desk: what is
// called at one end is what is answered at the other.
//
// What always holds:
// - A question fails in one of two ways. LinkError: whether it was heard is not known, and it may be asked again.
//   PeerRefusal: that site has answered, and said no (codes.ts). Nothing else is thrown but the signal's reason.
// - Everything is asked so that asking it twice does no harm, and is answered the same: answers get lost.
// - Who finishes needs no living source: what it has said for good may be had from elsewhere, with a proof (Release).
// - A move is of one or more disks, and what is said of each names it by its UUID.

import type { BlockMap } from '../block/block-map.ts'
import type { Span } from '../block/span.ts'
import type { Extent, Piece, Run, Urgency } from '../block/units.ts'
import type { DeedEntry } from '../deed/entries.ts'
import type { MigrationCounters, PowerLossMark } from '../store/records.ts'
import type { Ahead } from './ahead.ts'
import type { WaitingGuests } from './held-writes.ts'
import type { SignedWord } from './signed-words.ts'
import type { Terms } from './terms.ts'

/** A disk under the generation that is spoken of. */
export interface DiskAt {
  readonly disk: string
  readonly generation: number
}

export interface OfferedDisk {
  readonly id: string
  readonly name: string
  readonly sizeBytes: number
  /** The source's own. */
  readonly generation: number
  readonly allocatedBytes: number
  /** The hash of the last entry of its deed. */
  readonly head: string
}

export interface Preparation {
  readonly migration: string
  readonly disks: readonly OfferedDisk[]
  readonly terms: Terms
  /** The boot id of the source's kernel: while it is the same, no power was lost. */
  readonly boot: string
}

/** What a destination has of a disk before switchover, durably: all that it was given of an epoch's rounds up to one. */
export interface Copied {
  readonly epoch: string
  /**
   * 0: of no round yet. Durable with the bytes and their bits: a destination that starts again and says less than it has
   * confirmed once is taken for an old copy, whose bytes may be older than what it confirmed, and begins anew.
   */
  readonly confirmed: number
  /**
   * The highest round of which it was given anything, as it knows; `confirmed` at least. A source that does not know it was put
   * back to an old copy.
   */
  readonly round: number
}

/** How the source tracks what its guest writes. What was copied under another epoch says nothing. */
export interface Tracked {
  readonly epoch: string
  /** What is copied stays good. */
  readonly isSame: boolean
  /** The highest round that was given out under it. The next is one more. */
  readonly round: number
}

/** Asks which blocks of a run are to be copied next. They are read once the answer has come, and never before. */
export interface Collection extends DiskAt {
  readonly epoch: string
  readonly run: Run
  /** Asked for again: answered the same. */
  readonly round: number
  /** The highest round of which everything is durable at the destination, bytes and map. */
  readonly confirmed: number
  /** So many blocks at most. */
  readonly most: number
  /** Those as well that guests write again and again, and that else are kept back. */
  readonly hot: boolean
}

export interface Collected {
  /** In order. None, while some are left: these are being written, or are written often. */
  readonly spans: readonly Span[]
  /** Blocks of the whole disk that are to be copied besides: never given out, or written since. */
  readonly left: number
}

/** All blocks of a disk that are not at its destination as the source has frozen them. */
export interface FinalMap {
  readonly epoch: string
  readonly dirty: BlockMap
}

/** A disk that a destination asks for. `copied`: what it has of it, and how many blocks the disk has as it knows. */
export interface AskedDisk extends DiskAt {
  readonly copied?: Copied & { readonly blocks: number }
}

/** guest-write and reader-only ask only of a quiet source, `operator` of one where no client works, `resume` of any. */
export type AcquireReason = 'guest-write' | 'reader-only' | 'operator' | 'resume'

export interface Acquisition {
  readonly disks: readonly AskedDisk[]
  readonly reason: AcquireReason
  /** `operator`: of any. */
  readonly force: boolean
}

export interface GrantedDisk extends DiskAt {
  /** The entry of the deed by which it is the destination's, which follows what was offered. */
  readonly given: DeedEntry
  /** What the source's operator has not accepted of it. */
  readonly powerLoss: PowerLossMark | null
  /** Of the epoch that was asked about. Without it nothing that was copied before is good. */
  readonly final?: FinalMap
}

export interface Granted {
  readonly answer: 'granted'
  /** Those that are still in the move. */
  readonly disks: readonly GrantedDisk[]
  /** Under which the source gave them up; null: it is not on record there. */
  readonly boot: string | null
  /** Whose writes were cut off, because the operator forced it. */
  readonly cutOff: readonly string[]
}

export type AcquireAnswer =
  | Granted
  /**
   * `isAtWork`: a client works there, and the operator has not forced it. `isOwners`: only the operator there decides it, and has
   * not said so.
   */
  | {
      readonly answer: 'busy'
      readonly why: string
      readonly isAtWork: boolean
      readonly isOwners?: boolean | undefined
    }
  | { readonly answer: 'refused'; readonly code: string; readonly message: string }

/** How a migration stands at its source. */
export interface SourceStanding {
  /** `unknown`: whether the disks are given away is being decided. */
  readonly state: 'preparing' | 'ready' | 'departed' | 'taken' | 'released' | 'cancelled' | 'unknown'
  readonly writersAreGone: boolean
  readonly sessions: number
  /** null: that site has no such migration under way. */
  readonly boot: string | null
}

/** What a destination says every few seconds once it serves. Signed with its key: the source may have to show it. */
export interface Taken extends SignedWord {
  readonly disks: readonly DiskAt[]
  /**
   * Grows each time, and is on record at the destination before it is said; `run`: that daemon's run. The source keeps both:
   * a destination that comes with a mark which another run has said already is an old copy.
   */
  readonly mark: number
  readonly run: string
}

export interface DiskProgress extends MigrationCounters {
  readonly disk: string
  readonly missing: number
  readonly unreadable: readonly Run[]
  /** disk/picture.ts. */
  readonly picture?: string | null | undefined
}

/** How far a destination is, for the operator at the source. */
export interface Progress {
  readonly disks: readonly DiskProgress[]
  readonly paused: boolean
  readonly note: string | null
  /** Bytes a second, and what is left at this rate; null: not known. */
  readonly rate: number
  readonly secondsLeft: number | null
  readonly copyingMs: number
  /** null: nothing is copied ahead of switchover, or it is behind. */
  readonly ahead: Ahead | null
}

export interface CompleteDisk extends MigrationCounters, DiskAt {
  readonly verified: boolean
  readonly differed: readonly Run[]
}

/** Signed, as `taken` is. */
export interface Completion extends SignedWord {
  readonly disks: readonly CompleteDisk[]
  readonly copyingMs: number
}

/** What the source has sent of a disk, as it counts. */
export interface SentOf {
  readonly disk: string
  readonly sent: number
  readonly resent: number
}

/** What shows, without the site that is gone, what that site has said for good. */
export interface Proof {
  /** Where it was found, for people: the end of a sentence. */
  readonly foundIn: string
}

/** What becomes of a source whose destination has every block. */
export type Release =
  /** It has heard, durably. `disks`: those of which it knows what it sent; `released`: by which it has let them go for good. */
  | { readonly answer: 'released'; readonly disks: readonly SentOf[]; readonly released: readonly DeedEntry[] }
  /** The source is gone for good, and need not be told: that it gave the disks up for this migration is proven. */
  | { readonly answer: 'gone'; readonly proof: Proof }

/** What the source of a migration answers to its destination. */
export interface SourceDesk {
  /** How the migration stands. */
  inquire(signal: AbortSignal): Promise<SourceStanding>
  /** Give me the generation named, of each disk. Repeated until answered; answered the same each time, until it is taken. */
  acquire(asked: Acquisition, signal: AbortSignal): Promise<AcquireAnswer>
  /**
   * Track what guests write to the disk from now on, or go on with it. `copied`: what the destination has of it; null: nothing.
   * Under a new epoch every block is to be collected. Under the same one what was given out and not confirmed comes again.
   */
  track(disk: DiskAt, copied: Copied | null, signal: AbortSignal): Promise<Tracked>
  /** What is confirmed is done with, until it is written again. Refused with `epochOverCode`: track it anew. */
  collect(asked: Collection, signal: AbortSignal): Promise<Collected>
  /** A guest flushes at the destination: sync what was answered. `generation`: the one that the source still has. */
  flush(disk: DiskAt, signal: AbortSignal): Promise<{ readonly boot: string }>
  /** The destination serves, durably. */
  taken(said: Taken, signal: AbortSignal): Promise<void>
  /** Data and holes of the disk, frozen or tracked, from the beginning of `run` on, and perhaps not to its end. */
  extents(disk: DiskAt, run: Run, signal: AbortSignal): Promise<readonly Extent[]>
  /**
   * SHA-256 of runs of the disk, frozen or tracked, in base64, in their order. With `stepBytes`: short digests (block/digest.ts) of each step of each run; of a
   * disk that is not frozen they are of this moment, as blocks are.
   */
  digests(disk: DiskAt, runs: readonly Run[], signal: AbortSignal, stepBytes?: number): Promise<readonly string[]>
  /** Pieces that cover the runs exactly once, in any order, each checked. What was yielded before a failure is good. */
  blocks(disk: DiskAt, runs: readonly Run[], options: { urgency: Urgency; signal: AbortSignal }): AsyncIterable<Piece>
  progress(said: Progress, signal: AbortSignal): Promise<readonly SentOf[]>
  /** Writes of guests wait at the destination for switchover, or were refused. */
  guests(said: WaitingGuests, signal: AbortSignal): Promise<void>
  /** The background copy is held, or is not, by the operator at the destination. */
  paused(isPaused: boolean, signal: AbortSignal): Promise<void>
  /** The destination has every block of every disk, durably. */
  complete(said: Completion, signal: AbortSignal): Promise<Release>
  /** The operator at the destination wants it cancelled: the source decides. */
  cancel(signal: AbortSignal): Promise<{ readonly cancelled: boolean; readonly message: string }>
}

/** What the destination of a migration answers to its source. */
export interface DestinationDesk {
  /** It is cancelled, durably. */
  cancelled(signal: AbortSignal): Promise<void>
  /** The operator at the source says: now. */
  switchover(force: boolean, signal: AbortSignal): Promise<void>
  /** The operator at the source holds the background copy, or lets it go on. */
  pause(isPaused: boolean, signal: AbortSignal): Promise<void>
  /** The operator at the source bounds the background copy anew, in bytes a second; null: no bound. */
  setMaxRate(maxRate: number | null, signal: AbortSignal): Promise<void>
  /** Every session that had written at the source has said DISC. */
  writersGone(signal: AbortSignal): Promise<void>
}

/** What a site has of the disks that a peer gave away to it. `unknown`: it knows nothing of the migration. */
export interface DestinationStanding {
  readonly state: string
  readonly disks: readonly DiskAt[]
}

/** A deed of a disk that a site has: whoever does not know its last entry asks for it. */
export interface Claim {
  readonly disk: string
  /** The hash of the last entry, and how many there are. */
  readonly head: string
  readonly length: number
}

/** What a site answers to a paired one. */
export interface SiteDesk {
  /** These disks moved between us, and I have these deeds of them: what do you have? */
  generations(claims: readonly Claim[], signal: AbortSignal): Promise<readonly Claim[]>
  /** The deed of a disk; `head`: the one that ends with that entry. Nobody has verified it yet. */
  deed(disk: string, head: string | null, signal: AbortSignal): Promise<unknown>
  /** Start a migration of disks of yours, by their names, to me. Resolves to its id. */
  request(disks: readonly string[], terms: Terms, signal: AbortSignal): Promise<string>
  /** What would become of these, if they came? */
  estimate(disks: readonly EstimatedDisk[], terms: Terms, signal: AbortSignal): Promise<Forecast>
  /** Make incoming disks of these. */
  prepare(preparation: Preparation, signal: AbortSignal): Promise<void>
  /** What is at the destination? Asked before a disk is taken back. */
  standing(migration: string, signal: AbortSignal): Promise<DestinationStanding>
  source(migration: string): SourceDesk
  destination(migration: string): DestinationDesk
}

/** A cell of a disk that is about to move, of which the destination may say whether it has it. Short digests. */
export interface Sample {
  readonly offset: number
  readonly cell: string
  readonly blocks: readonly string[]
}

export interface EstimatedDisk extends OfferedDisk {
  readonly samples: readonly Sample[]
}

/** What would become of disks that came, as the destination sees it. Nothing changes by it. */
export interface Forecast {
  /** Why they could not come; null: they could. */
  readonly refusal: { readonly code: string; readonly message: string } | null
  readonly freeBytes: number
  /** Of the samples of each disk, in their order, how many bytes are there already. */
  readonly sparedBytes: readonly number[]
}

/** The other site, as this one speaks to it. */
export interface Counterpart extends SiteDesk {
  readonly peerId: string
}
