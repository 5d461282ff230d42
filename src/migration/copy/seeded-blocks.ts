// Fewer bytes: the source's blocks, of which those are taken from here that this site has already. Beside blocks(disk, runs,
// options) of the source, and answers as it does: so every copy profits that fetches through it, and whatever comes lands as
// what was fetched.
//
//   same place   the seeds' bytes at the place: a cell of 64 KiB by its digest, and where that differs, its blocks of 4 KiB
//   by content   a cell that stands elsewhere in a seed (content-index.ts)
//
// What always holds:
// - Bytes of a seed are used when the digest of these very bytes, in memory, is the source's; all else is fetched.
// - What came from here once and is asked for again (the comparison found that it differs) is fetched.
// - Guests' fetches are never held up by it: `demand` goes past it.

import { BlockMap, blockSizeBytes } from '../../block/block-map.ts'
import type { Clock } from '../../block/clock.ts'
import { shortDigest } from '../../block/digest.ts'
import { spanOf } from '../../block/span.ts'
import type { Piece, Run, Urgency } from '../../block/units.ts'
import { blockExtents } from '../../block/zeros.ts'
import type { DiskAt, SourceDesk } from '../counterpart.ts'
import { unlessAborted } from '../unless-aborted.ts'
import { ContentIndex } from './content-index.ts'
import { Missing } from './missing.ts'
import { Payoff } from './payoff.ts'
import { cellBytes, hasDataAt, readSeed, type Seed } from './seed.ts'
import { type Cells, KeptAnswers, SourceCells } from './source-cells.ts'

const nothingAsked: Cells = new Map()

/** Cells that one question is about: 2 MiB. */
export const groupBytes = 32 * cellBytes
/** Groups that are asked for ahead of the one that is looked at. */
const groupsAhead = 3
/** The copy waits so long for the index of a seed that the operator named. */
const indexWaitMs = 10_000

export interface SeededBlocksParts {
  readonly source: Pick<SourceDesk, 'blocks' | 'digests'>
  readonly clock: Clock
  readonly sizeBytes: number
  readonly seeds: readonly Seed[]
  /** The disk does not change at the source any more: its digests hold, and are asked for ahead, a whole group at once. */
  readonly isFrozen: boolean
  /** Whether something of the range is to be fetched still. */
  isMissing(run: Run): boolean
  /** Ends the index, and what is asked ahead. */
  readonly signal: AbortSignal
}

/** A cell, or a part of one, that is not what stands at the place here. */
interface Differing {
  readonly run: Run
  /** What stands there. */
  readonly bytes: Buffer
}

interface Options {
  readonly urgency: Urgency
  readonly signal: AbortSignal
}

interface Wanted extends Options {
  readonly missing: Missing
}

export class SeededBlocks implements Pick<SourceDesk, 'blocks'> {
  readonly #parts: SeededBlocksParts
  readonly #cells: SourceCells
  /** By the offsets of groups. */
  readonly #kept = new KeptAnswers()
  readonly #index = new ContentIndex()
  #indexing: Promise<void> | undefined
  #hasWaited = false
  readonly #payoffs = { samePlace: new Payoff(), byContent: new Payoff(), blocks: new Payoff() }
  /** Blocks that were taken from here. */
  readonly #given: BlockMap

  constructor(parts: SeededBlocksParts) {
    this.#parts = parts
    this.#given = new BlockMap(Math.ceil(parts.sizeBytes / blockSizeBytes))
    this.#cells = new SourceCells(parts.source)
    if (parts.seeds.some(({ isNamed }) => isNamed)) this.#startIndex()
  }

  async *blocks(disk: DiskAt, runs: readonly Run[], options: Options): AsyncGenerator<Piece> {
    const { source, seeds } = this.#parts
    if (options.urgency === 'demand' || seeds.length === 0) {
      yield* source.blocks(disk, runs, options)
      return
    }
    await this.#untilIndexed(options.signal)
    const groups = runs.flatMap((run) => [...groupsOf(run)])
    const asked: Promise<Cells>[] = []
    const missing = new Missing()
    for (const [at, group] of groups.entries()) {
      for (let next = asked.length; next < groups.length && next <= at + groupsAhead; next++) {
        const answer = this.#ask(disk, groups[next]!, options.signal)
        answer.catch(() => {}) // It is awaited below, when its turn comes.
        asked.push(answer)
      }
      // What was asked for everybody may be asked for longer than this call is wanted.
      yield* this.#group(disk, group, await unlessAborted(asked[at]!, options.signal), { ...options, missing })
      if (missing.isMuch) yield* source.blocks(disk, missing.take(), options)
    }
    if (!missing.isEmpty) yield* source.blocks(disk, missing.take(), options)
  }

  // ---- what is asked

  /** The digests of those cells of which something may be here. @throws LinkError */
  #ask(disk: DiskAt, part: Run, signal: AbortSignal): Promise<Cells> {
    if (!this.#parts.isFrozen) return this.#askOf(disk, part, signal)
    const first = part.offset - (part.offset % groupBytes)
    for (const offset of [first, first + groupBytes]) {
      const length = Math.min(groupBytes, this.#parts.sizeBytes - offset)
      if (length > 0) this.#kept.once(offset, () => this.#askOf(disk, { offset, length }, this.#parts.signal))
    }
    return this.#kept.once(first, () => this.#askOf(disk, part, this.#parts.signal))
  }

  async #askOf(disk: DiskAt, area: Run, signal: AbortSignal): Promise<Cells> {
    const { sizeBytes, isMissing } = this.#parts
    const { samePlace, byContent } = this.#payoffs
    const wanted = [...cellsOf(area)].filter(
      (cell) => isWhole(cell, sizeBytes) && !this.#wasGiven(cell) && isMissing(cell),
    )
    const here = wanted.filter((cell) => this.#seedAt(cell) !== undefined)
    const asksHere = here.length > 0 && samePlace.pays
    const asksElsewhere = wanted.length > here.length && this.#index.size > 0 && byContent.pays
    if (!asksHere && !asksElsewhere) return nothingAsked
    const payoff = asksHere ? samePlace : byContent
    return this.#cells.cells(disk, asksElsewhere ? wanted : here, signal, (bytes) => payoff.asked(bytes))
  }

  #seedAt({ offset, length }: Run): Seed | undefined {
    return this.#parts.seeds.find((seed) => hasDataAt(seed, offset, length))
  }

  #wasGiven({ offset, length }: Run): boolean {
    const { first, end } = spanOf(offset, length)
    return !this.#given.hasNone(first, end)
  }

  // ---- what is here

  /** What is here of a group; what is not joins `missing`. */
  async *#group(disk: DiskAt, group: Run, cells: Cells, { signal, missing }: Wanted): AsyncGenerator<Piece> {
    if (cells.size === 0 && !this.#hasCandidate(group)) return missing.later(group)
    const differing: Differing[] = []
    for (const cell of cellsOf(group)) {
      await this.#parts.clock.turn()
      signal.throwIfAborted()
      const digest = cells.get(cell.offset)
      if (this.#wasGiven(cell)) missing.push(cell)
      else if (digest === undefined) differing.push(...(await this.#standing(cell, missing)))
      else yield* this.#cell(cell, digest, differing, missing)
    }
    yield* this.#blocksOf(disk, differing, missing, signal)
  }

  #hasCandidate({ offset, length }: Run): boolean {
    return this.#parts.seeds.some((seed) => {
      const within = Math.min(length, seed.sizeBytes - offset)
      return within > 0 && hasDataAt(seed, offset, within)
    })
  }

  async *#cell(cell: Run, digest: string, differing: Differing[], missing: Missing): AsyncGenerator<Piece> {
    const { samePlace, byContent } = this.#payoffs
    let standing: Buffer | undefined
    for (const seed of this.#parts.seeds) {
      if (!hasDataAt(seed, cell.offset, cell.length)) continue
      const bytes = await readSeed(seed, cell.offset, cell.length)
      if (!bytes) continue
      if (shortDigest(bytes) === digest) {
        samePlace.spared(cell.length)
        return yield* this.#pieces(cell.offset, bytes)
      }
      standing ??= bytes
    }
    const found = await this.#byContent(cell, digest)
    if (found) {
      byContent.spared(cell.length)
      return yield* this.#pieces(cell.offset, found)
    }
    this.#startIndex()
    if (standing) differing.push({ run: cell, bytes: standing })
    else missing.push(cell)
  }

  /** Of a part of a cell no digest was asked: what stands there, if anything. */
  async #standing(part: Run, missing: Missing): Promise<readonly Differing[]> {
    const isPart = !isWhole(part, this.#parts.sizeBytes)
    const seed = isPart ? this.#seedAt(part) : undefined
    const bytes = seed && (await readSeed(seed, part.offset, part.length))
    if (bytes) return [{ run: part, bytes }]
    missing.push(part)
    return []
  }

  /** Within what differs, block by block; what is not here joins `missing`. */
  async *#blocksOf(
    disk: DiskAt,
    differing: readonly Differing[],
    missing: Missing,
    signal: AbortSignal,
  ): AsyncGenerator<Piece> {
    const { blocks } = this.#payoffs
    const runs = differing.map(({ run }) => run)
    const digests =
      runs.length > 0 && blocks.pays
        ? await this.#cells.blocks(disk, runs, signal, (bytes) => blocks.asked(bytes))
        : undefined
    for (const { run, bytes } of differing) {
      await this.#parts.clock.turn()
      if (!digests) missing.push(run)
      for (let from = 0; digests && from < run.length; from += blockSizeBytes) {
        const part = bytes.subarray(from, from + blockSizeBytes)
        const at = run.offset + from
        if (shortDigest(part) === digests.get(at)) {
          blocks.spared(part.length)
          yield* this.#pieces(at, Buffer.from(part))
        } else missing.push({ offset: at, length: part.length })
      }
    }
  }

  async #byContent(cell: Run, digest: string): Promise<Buffer | undefined> {
    if (cell.length !== cellBytes) return undefined
    const place = this.#index.find(digest)
    const seed = place && this.#parts.seeds[place.seed]
    const bytes = seed && (await readSeed(seed, place.offset, cellBytes))
    return bytes && shortDigest(bytes) === digest ? bytes : undefined
  }

  /** Zeros stay zeros: a hole of the source need not be one here. */
  *#pieces(offset: number, bytes: Buffer): Generator<Piece> {
    const { first, end } = spanOf(offset, bytes.length)
    this.#given.add(first, end)
    for (const { from, end: to, isZero } of blockExtents(bytes, offset)) {
      const piece = { offset: offset + from, length: to - from, isSpared: true }
      const part = to - from === bytes.length ? bytes : bytes.subarray(from, to)
      yield { ...piece, bytes: isZero ? undefined : part }
    }
  }

  // ---- what is elsewhere

  #startIndex(): void {
    const { seeds, clock, signal } = this.#parts
    this.#indexing ??= (async () => {
      for (const [number, seed] of seeds.entries()) await this.#index.addSeed(seed, number, clock, signal)
    })().catch(() => {}) // It ends with the copy; without it, less is spared.
  }

  /** Hashing a seed is faster than most links: but not for ever. */
  async #untilIndexed(signal: AbortSignal): Promise<void> {
    if (this.#hasWaited || !this.#indexing || !this.#parts.seeds.some(({ isNamed }) => isNamed)) return
    const over = new AbortController()
    const late = this.#parts.clock.sleep(indexWaitMs, AbortSignal.any([signal, over.signal])).catch(() => {})
    await Promise.race([this.#indexing, late])
    over.abort()
    this.#hasWaited = true
    signal.throwIfAborted()
  }
}

/** A run in parts that lie in one group each. */
function* groupsOf(run: Run): Generator<Run> {
  yield* cut(run, groupBytes)
}

/** A run in cells, of which the first and the last may be parts. */
function* cellsOf(run: Run): Generator<Run> {
  yield* cut(run, cellBytes)
}

function* cut({ offset, length }: Run, unit: number): Generator<Run> {
  const end = offset + length
  for (let at = offset; at < end; ) {
    const next = Math.min(end, at - (at % unit) + unit)
    yield { offset: at, length: next - at }
    at = next
  }
}

function isWhole({ offset, length }: Run, sizeBytes: number): boolean {
  return offset % cellBytes === 0 && (length === cellBytes || offset + length === sizeBytes)
}
