// Copies a disk ahead of switchover, while its guest goes on at the source: what the source says is to be copied (`collect`), again
// and again. What is written there often comes last. The first pass has everything, each that follows what was written since.
//
// What always holds:
// - Clear, then read: blocks are asked for after the source has given them out, so that what is written later comes again.
// - A round is confirmed when all of it is durable here, bytes and bits. Until then the source holds it for dirty: so that
//   little comes again after a crash, at most `unconfirmedBoundBytes` of data are given out and not confirmed (promise 8).
// - A block is asked for again only when what was asked for before has landed, or never will.

import { blockSizeBytes } from '../../block/block-map.ts'
import type { Clock } from '../../block/clock.ts'
import { giveBack } from '../../block/own-memory.ts'
import { type Span, spanOf } from '../../block/span.ts'
import type { Extent, Run } from '../../block/units.ts'
import type { BlockSource } from '../../disk/block-source.ts'
import type { Disk } from '../../disk/disk.ts'
import type { Collected, Collection, Copied, DiskAt, Tracked } from '../counterpart.ts'
import { merged, unreadableIn } from '../unreadable.ts'
import type { Convergence } from './convergence.ts'
import type { InFlight } from './in-flight.ts'
import type { Pause } from './pause.ts'
import type { RateLimit } from './rate-limit.ts'
import { requestsOf } from './requests.ts'
import type { Window } from './window.ts'

/** Data in one round; and in step, when the machine may move at any moment, and what is not whole then comes again. */
const usualRoundBytes = 16 * 2 ** 20
const roundInStepBytes = 4 * 2 ** 20
const unconfirmedBoundBytes = 48 * 2 ** 20
/** The source remembers so many that are not confirmed, and some more. */
const unconfirmedBoundRounds = 32
/** What one question may give out where little of it is data: holes cost nothing, and the dirt in between is bounded besides. */
const spanBytes = 2 ** 40
const extentsInSlice = 8192
/** A shorter hole takes room in a request as data does: what lies far apart is asked for, and looked for in seeds, at a time. */
const longHoleBytes = 16 * 2 ** 20
/** Of a disk over 64 GiB: it may have too many that are shorter. */
const longHoleOfLargeBytes = 2 ** 20
const largeDiskBytes = 64 * 2 ** 30

export interface PreCopyParts {
  readonly disk: Disk
  readonly clock: Clock
  /** The source's newest bytes. */
  readonly source: BlockSource
  track(copied: Copied | null, signal: AbortSignal): Promise<Tracked>
  collect(asked: Omit<Collection, keyof DiskAt>, signal: AbortSignal): Promise<Collected>
  /** Data and holes of the disk as it is now. */
  extents(offset: number, lengthBytes: number, signal: AbortSignal): Promise<readonly Extent[]>
  /** Resolves when it is on record that blocks of the epoch may be here from now on, and that none are yet. */
  begin(epoch: string, signal: AbortSignal): Promise<void>
  readonly limit: RateLimit
  readonly pause: Pause
  readonly window: Window
  readonly inFlight: InFlight
  readonly convergence: Convergence
  /** Data in one round, where it is to be less than usual; whole blocks. */
  readonly roundBytes?: number | undefined
  /** Something has come, or what is left is known anew. */
  progressed(): void
  /** Ranges that the source cannot read. */
  unreadable(runs: readonly Run[]): void
}

/** What one question is about. */
interface Slice {
  readonly run: Run
  /** Blocks. */
  readonly most: number
  /** Of the run, as far as is known. */
  readonly extents: readonly Extent[]
}

/** What was given out in one answer. */
interface Round {
  readonly number: number
  readonly bytes: number
  readonly isEmpty: boolean
  /** Resolves when all of it has landed. */
  landed: Promise<unknown>
  isLanded: boolean
}

export class PreCopy {
  readonly #parts: PreCopyParts
  #epoch = ''
  #round = 0
  /** Not confirmed, in order. */
  #rounds: Round[] = []
  readonly #tasks = new Set<Promise<void>>()
  #failure: unknown
  #left: number | undefined
  #isHotDue = false
  #unreadable: readonly Run[] = []
  /** Of the first pass, from the last question: what they say may have changed since, and nothing depends on it. */
  #extents: readonly Extent[] = []

  constructor(parts: PreCopyParts) {
    this.#parts = parts
  }

  /** What the source has to know of it to say what is good of it; undefined: nothing is. */
  get copied(): Copied | undefined {
    const { epoch, round: confirmed } = this.#parts.disk.arriving.ahead
    if (epoch === undefined) return undefined
    // What was given out to a daemon that has ended, and was not confirmed, is not known any more.
    return { epoch, confirmed, round: epoch === this.#epoch ? Math.max(this.#round, confirmed) : confirmed }
  }

  /** Bytes that are not here as the source has them; undefined: not known yet. */
  get leftBytes(): number | undefined {
    if (this.#left === undefined) return undefined
    const given = this.#rounds.reduce((sum, { bytes }) => sum + bytes, 0)
    return Math.min(this.#left * blockSizeBytes + given, this.#parts.disk.sizeBytes)
  }

  /**
   * Has the source track the disk, or go on with it, and copies for as long as nothing fails. Always rejects: with the reason of
   * `signal`, or with what failed, and then nothing lands any more; call it again to go on.
   */
  async run(signal: AbortSignal): Promise<never> {
    const failed = new AbortController()
    const either = AbortSignal.any([signal, failed.signal])
    this.#failure = undefined
    try {
      await this.#track(either)
      for (;;) {
        const isWhole = await this.#pass(either)
        await this.#parts.convergence.passed((this.#left ?? 0) * blockSizeBytes, isWhole, either)
      }
    } catch (error) {
      failed.abort(error)
      await Promise.allSettled(this.#tasks)
      signal.throwIfAborted()
      throw this.#failure ?? error
    }
  }

  async #track(signal: AbortSignal): Promise<void> {
    const { track, begin, convergence } = this.#parts
    const { epoch, isSame, round } = await track(this.copied ?? null, signal)
    this.#rounds = [] // What was given out before, and not confirmed, comes again.
    this.#round = round
    if (!isSame) {
      convergence.anew()
      await begin(epoch, signal)
    }
    this.#epoch = epoch
    this.#extents = []
  }

  /** Once over the disk. Resolves when all that came in it is durable, to whether blocks that are written often were in it too. */
  async #pass(signal: AbortSignal): Promise<boolean> {
    const { disk, pause, clock, convergence } = this.#parts
    const isHot = this.#isHotDue || convergence.isInStep
    let given = 0
    convergence.begins()
    for (let at = 0; at < disk.sizeBytes; ) {
      await clock.turn()
      await pause.passed(signal)
      await this.#awaitRoomForRound(signal)
      const slice = await this.#slice(at, signal)
      const answer = await this.#collect(slice, isHot, signal)
      for (const { first, end } of answer.spans) given += end - first
      await this.#bring(answer.spans, slice.extents, signal)
      at = nextAt(slice, answer.spans, disk.sizeBytes)
    }
    for (const { landed } of this.#rounds) await landed
    this.#throwFailure()
    await this.#save()
    // The most of what is left was kept back, or is written faster than it comes.
    this.#isHotDue = (this.#left ?? 0) > given
    return isHot
  }

  /** What to ask for next: so much of the disk that not too much of it is data. */
  async #slice(at: number, signal: AbortSignal): Promise<Slice> {
    const { disk, convergence } = this.#parts
    const whole = { offset: at, length: disk.sizeBytes - at }
    const { roundBytes = usualRoundBytes } = this.#parts
    const laterBytes = convergence.isInStep ? Math.min(roundInStepBytes, roundBytes) : roundBytes
    if (!convergence.isFirst) return { run: whole, most: laterBytes / blockSizeBytes, extents: [] }
    const limit = Math.min(at + spanBytes, disk.sizeBytes)
    const longBytes = disk.sizeBytes > largeDiskBytes ? longHoleOfLargeBytes : longHoleBytes
    const extents: Extent[] = []
    let end = at
    for (let data = 0; end < limit && data < roundBytes && extents.length < extentsInSlice; ) {
      const extent = await this.#extentAt(end, signal)
      if (!extent) break
      const extentEnd = Math.min(extent.offset + extent.length, limit)
      const to = extent.data ? Math.min(extentEnd, end + roundBytes - data) : extentEnd
      if (extent.data) data += to - end
      extents.push({ offset: end, length: to - end, data: extent.data || to - end < longBytes })
      end = to
    }
    return { run: { offset: at, length: end - at }, most: Math.ceil((end - at) / blockSizeBytes), extents }
  }

  /** undefined: the next question tells of it. */
  async #extentAt(offset: number, signal: AbortSignal): Promise<Extent | undefined> {
    const { disk, extents } = this.#parts
    // They are in order, and what lies before is of no more use.
    const index = this.#extents.findIndex((extent) => offset < extent.offset + extent.length)
    this.#extents = index === -1 ? [] : this.#extents.slice(index)
    if (this.#extents.length === 0) this.#extents = await extents(offset, disk.sizeBytes - offset, signal)
    return this.#extents[0]
  }

  async #collect({ run, most }: Slice, hot: boolean, signal: AbortSignal): Promise<Collected> {
    const { collect, progressed } = this.#parts
    const number = this.#round + 1
    const asked = {
      epoch: this.#epoch,
      run,
      round: number,
      confirmed: this.#parts.disk.arriving.ahead.round,
      most,
      hot,
    }
    const answer = await collect(asked, signal)
    this.#round = number
    this.#left = answer.left
    progressed()
    return answer
  }

  /** Starts what brings the blocks of a round. Resolves when all of it is on its way. */
  async #bring(spans: readonly Span[], extents: readonly Extent[], signal: AbortSignal): Promise<void> {
    const { disk, limit, pause, inFlight } = this.#parts
    let bytes = 0
    const own: Promise<void>[] = []
    const requests = [...requestsOf(spans, extents, disk.sizeBytes)]
    for (const request of requests) bytes += request.dataBytes
    const isEmpty = spans.length === 0
    const round: Round = { number: this.#round, bytes, isEmpty, landed: Promise.resolve(), isLanded: isEmpty }
    this.#rounds.push(round)
    for (const { runs, dataBytes } of requests) {
      this.#throwFailure()
      await limit.pass(dataBytes, signal)
      await pause.passed(signal) // It may have begun while this waited for its turn.
      const way = await inFlight.take(dataBytes, signal)
      const task = this.#fetch(runs, dataBytes, signal)
        .catch((error: unknown) => {
          this.#failure ??= error
          this.#parts.window.lost()
        })
        .finally(() => {
          way[Symbol.dispose]()
          this.#tasks.delete(task)
        })
      this.#tasks.add(task)
      own.push(task)
    }
    round.landed = Promise.all(own).then(() => {
      round.isLanded = this.#failure === undefined
    })
  }

  async #fetch(runs: readonly Run[], dataBytes: number, signal: AbortSignal): Promise<void> {
    const { clock, source, limit, window, disk } = this.#parts
    const startedMs = clock.now()
    let [left, costlessBytes, sparedBytes] = [runs, 0, 0]
    while (left.length > 0) {
      try {
        for await (const piece of source.fetch(left, { urgency: 'background', signal })) {
          if (!piece.bytes || piece.isSpared) costlessBytes += piece.length
          if (piece.isSpared) sparedBytes += piece.length
          await disk.arriving.ahead.land(piece)
          giveBack(piece.bytes)
        }
        left = []
      } catch (error) {
        const bad = unreadableIn(error)
        if (!bad || !left.some((run) => bad.offset >= run.offset && bad.offset < run.offset + run.length)) throw error
        this.#cannotRead(bad)
        left = behind(left, bad) // What lies before it has come.
      }
    }
    limit.giveBack(Math.min(costlessBytes, dataBytes))
    // What was looked for here took its own time, which says nothing of the link.
    if (sparedBytes === 0) window.answered(dataBytes, clock.now() - startedMs)
    this.#parts.convergence.came(Math.max(0, dataBytes - costlessBytes))
    this.#parts.progressed()
  }

  /** It is missing here, and is asked for again after switchover: the rest comes. */
  #cannotRead(bad: Run): void {
    const { disk } = this.#parts
    disk.arriving.ahead.forget(spanOf(bad.offset, Math.min(bad.length, disk.sizeBytes - bad.offset)))
    this.#unreadable = merged([...this.#unreadable, bad])
    this.#parts.unreadable(this.#unreadable)
  }

  /** Not more is given out than may come again. */
  async #awaitRoomForRound(signal: AbortSignal): Promise<void> {
    for (;;) {
      this.#throwFailure()
      signal.throwIfAborted()
      const [oldest] = this.#rounds
      if (!oldest) return
      const given = this.#rounds.reduce((sum, { bytes }) => sum + bytes, 0)
      const isFull = given + usualRoundBytes > unconfirmedBoundBytes || this.#rounds.length >= unconfirmedBoundRounds
      if (!oldest.isLanded && !isFull) return
      await oldest.landed
      this.#throwFailure()
      await this.#save()
    }
  }

  /** Makes durable what has landed: the rounds of which all has are confirmed by the next question. */
  async #save(): Promise<void> {
    const first = this.#rounds.findIndex(({ isLanded }) => !isLanded)
    const landed = first === -1 ? this.#rounds : this.#rounds.slice(0, first)
    const last = landed.at(-1)
    if (!last) return
    const { ahead } = this.#parts.disk.arriving
    // Nothing came with a round of nothing: it is not worth a sync, every second for days.
    const given = landed.findLast(({ isEmpty }) => !isEmpty)
    if (given) {
      ahead.roundLanded(given.number)
      await ahead.flush()
    }
    this.#rounds = this.#rounds.filter(({ number }) => number > last.number)
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure
  }
}

/** From where the next question asks on. */
function nextAt({ run, most }: Slice, spans: readonly Span[], sizeBytes: number): number {
  const given = spans.reduce((sum, { first, end }) => sum + end - first, 0)
  const end = given < most ? run.offset + run.length : spans.at(-1)!.end * blockSizeBytes
  return Math.min(end, sizeBytes)
}

/** What of the runs lies behind a range. */
function behind(runs: readonly Run[], { offset, length }: Run): Run[] {
  const from = offset + length
  return runs.flatMap((run) => {
    const start = Math.max(run.offset, from)
    const end = run.offset + run.length
    return start < end ? [{ offset: start, length: end - start }] : []
  })
}
