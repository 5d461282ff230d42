// What the destination of a disk does not have of it, while it is copied and its guest goes on writing: for one epoch, from
// its first moment, in which that is everything.
//
// A block is *clean* when the destination has said that it has it, durably, and no guest write has begun since. All others are
// dirty: to be given out, or given out in a round that is not confirmed yet. Only a set bit of the file calls a block clean.
//
// What always holds:
// - Before a guest's write (WRITE, TRIM, WRITE_ZEROES) begins its blocks are dirty, in the file too. They are not given out
//   while it is under way: whoever reads what was given out reads what was written before, and a later write makes it dirty again.
// - A block is given out first, and then read: never the other way round.
// - What is confirmed becomes clean, unless it was written since, or is in a later round. Confirmed twice it is what it was.
// - Where a bit cannot be taken off the file, the epoch is over before the write goes on; where that cannot be said in the file
//   either, the write fails.

import type { BlockMap } from '../../block/block-map.ts'
import { type Span, spanOf } from '../../block/span.ts'
import type { DirtyMapFile, KeptMap, Rounds } from '../../store/dirty-map-file.ts'
import { outside, SpanList, windowsOf } from './gaps.ts'
import { Heat } from './heat.ts'

/** That wait for their confirmation. The destination copies some seconds' worth at a time. */
const mostRounds = 64
/** Of a round: what is in disorder is given out in several, so that what is remembered of them is bounded. */
const mostSpans = 16_384
/** Runs of blocks that are looked for, or are to be given out again, in one turn of the loop. */
const stepsAtOnce = 512
/** Blocks of which what is confirmed becomes clean in one turn: some of a page of the file. */
const windowBlocks = 8192

/** The epoch is over, or what was asked for is not known under it. */
export class EpochOver extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'EpochOver'
  }
}

/** What is asked for of a span: at most so many blocks; `hot`: those as well that are written again and again. */
export interface Wanted {
  readonly span: Span
  readonly most: number
  readonly hot: boolean
}

export interface GivenOut {
  readonly spans: readonly Span[]
  /** Blocks that are to be given out besides. */
  readonly left: number
}

interface Round {
  readonly round: number
  /** Of which it was asked for. */
  readonly span: Span
  /** In order; between each two lies a block of another. */
  readonly spans: readonly Span[]
}

export interface DirtyMapParts {
  readonly now: () => number
  /** Resolves when one short step may be done. */
  readonly turn: () => Promise<void>
  /** The epoch has ended because its file could not be written. */
  readonly lost: (error: Error) => void
}

export class DirtyMap {
  readonly epoch: string
  readonly #file: DirtyMapFile
  readonly #parts: DirtyMapParts
  /** All that are not clean. */
  readonly #dirty: BlockMap
  /** Of them, those that are to be given out. */
  readonly #waiting: BlockMap
  #rounds: readonly Round[] = []
  /** As they are, and as the file has them. */
  #highest: Rounds
  #said: Rounds
  /** Guest writes under way. */
  readonly #flights = new Set<Span>()
  readonly #heat: Heat
  #isOver = false
  /** Why the file, which calls blocks clean that are not, could not be written. */
  #unsaid: Error | undefined

  constructor(file: DirtyMapFile, { epoch, dirty, round, confirmed }: KeptMap, parts: DirtyMapParts) {
    this.epoch = epoch
    this.#file = file
    this.#parts = parts
    this.#dirty = dirty
    this.#waiting = dirty.copy()
    this.#highest = { round, confirmed }
    this.#said = this.#highest
    this.#heat = new Heat(dirty.blocks, parts.now())
  }

  /** Nothing is believed any more of what was given out. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** The highest rounds under this epoch. */
  get rounds(): Rounds {
    return this.#highest
  }

  /** Not to be changed. Once the disk is frozen, what its destination has not. */
  get dirty(): BlockMap {
    return this.#dirty
  }

  // ---- guests' writes

  /** A guest's write of this range begins in this step. Throws when it may not. */
  begins(offset: number, lengthBytes: number): void {
    const { first, end } = spanOf(offset, lengthBytes)
    this.#heat.add(first)
    if (this.#unsaid) this.#end(this.#unsaid)
    if (end - first === 1 ? this.#waiting.has(first) : this.#waiting.hasAll(first, end)) return
    this.#waiting.add(first, end)
    if (this.#isOver || this.#dirty.hasAll(first, end)) return
    this.#dirty.add(first, end)
    try {
      this.#file.putFew(this.#dirty, first, end)
    } catch (error) {
      this.#end(error as Error)
    }
  }

  /** The write of this range does not end in the step in which it began. */
  underWay(offset: number, lengthBytes: number): Disposable {
    const span = spanOf(offset, lengthBytes)
    this.#flights.add(span)
    return { [Symbol.dispose]: () => this.#flights.delete(span) }
  }

  /** The file says what is not true any more: it says nothing from now on. @throws `error` when it cannot be told so */
  #end(error: Error): void {
    this.#unsaid = error
    try {
      this.#file.void()
    } catch {
      throw error
    }
    this.#unsaid = undefined
    if (this.#isOver) return
    this.#isOver = true
    this.#parts.lost(error)
  }

  // ---- rounds. One call at a time.

  /**
   * Gives out blocks in round `round`: the next one, or one that is not confirmed, and then the same blocks. All that was given
   * out up to `confirmed` is at the destination. @throws EpochOver
   */
  async collect(round: number, confirmed: number, wanted: Wanted): Promise<GivenOut> {
    this.#checkRound(round, confirmed)
    if (confirmed > this.#highest.confirmed) await this.#confirmUpTo(confirmed)
    const given = this.#rounds.find((each) => each.round === round) ?? (await this.#next(round, wanted))
    const { first, end } = wanted.span
    if (given.span.first !== first || given.span.end !== end) throw new EpochOver(`round ${round} was of other blocks`)
    this.#sayRounds()
    return { spans: given.spans, left: this.#waiting.count }
  }

  /** All that was given out up to this round is at the destination, which asks for the disk now, and for nothing more. @throws EpochOver */
  async confirm(confirmed: number): Promise<void> {
    this.#checkOpen()
    if (confirmed <= this.#highest.confirmed) return
    if (confirmed > this.#highest.round) throw new EpochOver(`round ${confirmed} was not given out`)
    await this.#confirmUpTo(confirmed)
    this.#sayRounds()
  }

  #sayRounds(): void {
    if (this.#said === this.#highest) return
    this.#file.putRounds(this.#highest)
    this.#said = this.#highest
  }

  /** What was given out and not confirmed is to be given out again, in rounds to come. */
  async takeBack(): Promise<void> {
    for (const { spans } of this.#rounds) {
      for (const [index, { first, end }] of spans.entries()) {
        if (index % stepsAtOnce === stepsAtOnce - 1) await this.#parts.turn()
        this.#waiting.add(first, end)
      }
    }
    this.#rounds = []
  }

  #checkRound(round: number, confirmed: number): void {
    this.#checkOpen()
    const { round: last, confirmed: over } = this.#highest
    if (round <= over || round > last + 1 || confirmed >= round)
      throw new EpochOver(`round ${round}, with ${confirmed} confirmed, does not come after ${last}, with ${over}`)
  }

  #checkOpen(): void {
    if (this.#isOver || this.#unsaid) throw new EpochOver('what guests write is not tracked any more')
  }

  async #next(round: number, wanted: Wanted): Promise<Round> {
    if (round <= this.#highest.round) throw new EpochOver(`round ${round} is forgotten`)
    if (this.#rounds.length >= mostRounds) throw new EpochOver(`${mostRounds} rounds are not confirmed`)
    const given = { round, span: wanted.span, spans: await this.#take(wanted) }
    this.#rounds = [...this.#rounds, given]
    this.#highest = { ...this.#highest, round }
    this.#checkOpen()
    return given
  }

  async #take({ span, most, hot }: Wanted): Promise<readonly Span[]> {
    const spans: Span[] = []
    this.#heat.passTime(this.#parts.now())
    for (let at = span.first, left = most, steps = 1; left > 0 && spans.length < mostSpans; steps++) {
      if (steps % stepsAtOnce === 0) await this.#parts.turn()
      const found = this.#find({ first: at, end: span.end }, left, hot)
      if (!found) break
      at = found.end
      if (found.isBusy) continue
      this.#waiting.delete(found.first, found.end)
      left -= found.end - found.first
      const last = spans.at(-1)
      if (last?.end === found.first) spans[spans.length - 1] = { first: last.first, end: found.end }
      else spans.push({ first: found.first, end: found.end })
    }
    return spans
  }

  /** The first run of what is to be given out, or its beginning; `isBusy`: it may not be given out now. */
  #find(within: Span, most: number, hot: boolean): (Span & { readonly isBusy?: true }) | undefined {
    const run = this.#waiting.firstRun(within.first, within.end, true, most)
    if (!run) return undefined
    const { first } = run
    if (!hot && this.#heat.isHot(first)) return { ...this.#heat.alike({ first, end: within.end }), isBusy: true }
    let { end } = hot ? run : this.#heat.alike(run)
    for (const flight of this.#flights) {
      if (flight.first <= first && first < flight.end) return { first, end: flight.end, isBusy: true }
      if (flight.first > first) end = Math.min(end, flight.first)
    }
    return { first, end }
  }

  /** Rounds up to this one are done with. */
  async #confirmUpTo(confirmed: number): Promise<void> {
    for (;;) {
      const [oldest, ...later] = this.#rounds
      if (!oldest || oldest.round > confirmed) break
      const kept = [this.#waiting, ...later.map(({ spans }) => new SpanList(spans))]
      let window = -1
      for (const part of windowsOf(oldest.spans, windowBlocks)) {
        const next = Math.floor(part.first / windowBlocks)
        if (next !== window && window >= 0) {
          this.#putWindow(window)
          await this.#parts.turn()
          this.#checkOpen()
        }
        window = next
        // In the step in which it is looked at: a write that begins later makes it dirty again.
        for (const free of outside(part, kept)) this.#dirty.delete(free.first, free.end)
      }
      if (window >= 0) this.#putWindow(window)
      this.#rounds = later
    }
    this.#highest = { ...this.#highest, confirmed }
  }

  #putWindow(window: number): void {
    const first = window * windowBlocks
    try {
      this.#file.put(this.#dirty, first, Math.min(first + windowBlocks, this.#dirty.blocks))
    } catch {
      // Whatever it says of them now is true: they are clean, or are copied again after a restart.
    }
  }

  // ---- its end

  /** What guests have written up to now is durable in the file, but for what comes meanwhile. */
  async sync(): Promise<void> {
    try {
      await this.#file.sync()
    } catch (error) {
      this.#end(error as Error) // The kernel may have dropped a page, and says nothing of it the next time.
    }
  }

  /** The disk is frozen, and so is the map, durably. Rejects, and then it is not. @throws EpochOver */
  async freeze(): Promise<void> {
    this.#checkOpen()
    try {
      await this.#file.freeze(this.#dirty, this.#parts.turn)
    } catch (error) {
      this.#end(error as Error)
      throw error
    }
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}
