// What the actors of one run share: the world, the two sites, the oracle, and what was counted.

import type { Random } from '../random.ts'
import type { Archive } from './archive.ts'
import type { ComparisonWatch } from './comparison-watch.ts'
import type { CutWatch } from './cut-watch.ts'
import type { Oracle } from './oracle.ts'
import { sectorBytes } from './sim-file.ts'
import type { SimLink } from './sim-link.ts'
import type { SimSite } from './sim-site.ts'
import type { World } from './world.ts'

/** Those that a run may have. */
export const diskNames = ['web01', 'web02', 'web03'] as const
export const diskIds = diskNames.map((_, index) => `00000000-0000-4000-8000-${String(index + 1).padStart(12, '0')}`)
/** Of tests with one disk. */
export const diskName = diskNames[0]
export const diskId = diskIds[0]!
/** Of each. Not a whole number of blocks: the last one is short. */
export const sizeBytes = 11 * 4096 + 3 * sectorBytes
export const sectors = sizeBytes / sectorBytes
export const blocks = Math.ceil(sizeBytes / 4096)
export const sectorsInBlock = 4096 / sectorBytes
/** Sectors that strays write, and the guest then does not: the second half of a block, and the next one. */
export const strayRange = { first: 76, count: 12 }

/** One of the disks of a run, which move together. */
export interface StageDisk {
  readonly id: string
  readonly name: string
  readonly oracle: Oracle
  readonly comparison: ComparisonWatch
}

export interface Counts {
  reads: number
  writes: number
  /** Flushes answered; of these, where the disk was incoming. */
  flushes: number
  flushesThere: number
  /** Writes that began or ended within a sector; sectors that a block status called zeros. */
  raggedWrites: number
  zerosTold: number
  crashes: number
  stops: number
  pauses: number
  failedSyncs: number
  /** Losses of power at an owner that will be told, because of writes that were not flushed. */
  markedLosses: number
  acceptances: number
  /**
   * Moves of which what was copied ahead had come so far before switchover; blocks that were here when disks were taken, and of
   * these, of disks that moved with others.
   */
  ready: number
  blocksAhead: number
  blocksAheadTogether: number
  reclaims: number
  verifications: number
  /** Moves ended at the destination before the source had heard that it has everything. */
  endedByForce: number
  /** Pieces of which a bit flipped on the way. */
  flippedPieces: number
  /** Map logs damaged at rest. */
  rottenMaps: number
  /** Bits that flipped at rest, and ranges that a comparison named. */
  flips: number
  differencesFound: number
  /** Blocks that the source could not read any more; how often all else had come. */
  unreadableBlocks: number
  unreadableProbes: number
  /** Sites put back to an old copy; disks taken back after it. */
  restored: number
  restoredReclaims: number
  strayWrites: number
  /** Writes of strays that were refused, so that nobody may ever read them. */
  strayRefusals: number
}

export interface Stage {
  readonly world: World
  readonly link: SimLink
  /** Source and destination; they change roles when the disks go back. */
  readonly a: SimSite
  readonly b: SimSite
  readonly disks: readonly StageDisk[]
  readonly cut: CutWatch
  readonly counts: Counts
  /** For messages: the seed and the time. */
  readonly facts: string
  /** How often a machine lost its power so far. */
  readonly powerLosses: number
  readonly archive: Archive
  readonly hasStrays: boolean
  /** The destination is lost for good, as far as its operator knows. */
  readonly isLost: (site: SimSite) => boolean
  nextValue(): number
  /** A promise does not hold, or a bug of ours showed: the run ends with it. */
  fail(error: unknown): void
  /** A write was acknowledged at a site, in a generation. */
  acknowledged(disk: StageDisk, site: SimSite, generation: number): void
}

/** A run with one disk draws no number for it. */
export function oneOf<T>(random: Random, from: readonly T[]): T {
  return from.length === 1 ? from[0]! : random.pick(from)
}

export type Answer = { kind: 'good' } | { kind: 'error'; error: unknown } | { kind: 'unknown' }
