// Copies the disks of a move ahead of switchover, all of them at a time over one path, and says when the machine may move: when of
// each disk so little is left, or it shrinks no more. From then on they are kept in step, for days if need be.
//
// What always holds: it is never waited for by what follows. Whatever it has by switchover counts, and the rest is fetched then.

import { blockSizeBytes } from '../../../block/block-map.ts'
import type { Landed } from '../../../disk/remote-part.ts'
import { isNoSpace } from '../../../disk/room.ts'
import { LinkError, PeerRefusal } from '../../../link/channel.ts'
import type { Ahead } from '../../ahead.ts'
import { epochOverCode, noRightCode, unknownMigrationCode } from '../../codes.ts'
import { Convergence } from '../../copy/convergence.ts'
import { DataSurvey } from '../../copy/data-survey.ts'
import { InFlight } from '../../copy/in-flight.ts'
import { PreCopy } from '../../copy/pre-copy.ts'
import type { AskedDisk } from '../../counterpart.ts'
import { type Pace, still } from '../../course.ts'
import { retryDelayMs } from '../../retries.ts'
import { rangesText } from '../../unreadable.ts'
import type { ComingDisk } from '../coming-disk.ts'
import { type DestinationHost, recorded } from '../host.ts'
import type { Pacing } from '../pacing.ts'
import { followRight, type PassedRightParts, passingPauseMs } from '../passed-right.ts'
import { RemoteBlocks } from '../remote-blocks.ts'
import { SeedsHere } from '../seeds-here.ts'

const troublePauseMs = 1000
/** A full disk is tried again when it has this much room. */
const roomBytes = 2 ** 20

export interface PreCopyingParts {
  readonly host: DestinationHost
  readonly coming: readonly ComingDisk[]
  readonly pacing: Pacing
  readonly right: Omit<PassedRightParts, 'diskName'>
  /** It is said that the machine may move, for the first time. */
  becameReady(): void
}

interface DiskAhead {
  readonly coming: ComingDisk
  readonly copy: PreCopy
  readonly convergence: Convergence
  readonly survey: DataSurvey
  /** What of it is here already. */
  readonly seeds: SeedsHere
}

export class PreCopying {
  readonly #parts: PreCopyingParts
  readonly #disks: readonly DiskAhead[]
  /** What each disk waits for. */
  readonly #notes = new Map<ComingDisk, string>()
  /** Resolves when what was judged last is judged anew. */
  #judged = Promise.withResolvers<void>()
  #isTellingReady = false

  constructor(parts: PreCopyingParts) {
    this.#parts = parts
    const inFlight = new InFlight(parts.pacing.window)
    this.#disks = parts.coming.map((coming) => this.#disk(coming, inFlight))
  }

  /** What was copied of a disk, as an acquire tells it. */
  copied({ id, disk }: ComingDisk): Pick<AskedDisk, 'copied'> {
    const copied = this.#disks.find(({ coming }) => coming.id === id)?.copy.copied
    return copied ? { copied: { ...copied, blocks: Math.ceil(disk.sizeBytes / blockSizeBytes) } } : {}
  }

  /** How far it is. */
  get ahead(): Ahead {
    const { readyAt } = this.#parts.host.course.record
    const left = this.#disks.map(({ copy }) => copy.leftBytes)
    return {
      passes: Math.min(...this.#disks.map(({ convergence }) => convergence.passes)),
      leftBytes: left.includes(undefined) ? null : left.reduce((sum: number, bytes) => sum + bytes!, 0),
      isReady: readyAt !== null,
    }
  }

  get pace(): Pace {
    const rate = this.#parts.pacing.meter.rate()
    const missing = this.#disks.map(({ copy, convergence, survey }) =>
      convergence.isFirst ? survey.missingBytes : copy.leftBytes,
    )
    if (rate === 0) return still
    if (missing.includes(undefined)) return { rate, secondsLeft: null }
    return { rate, secondsLeft: missing.reduce((sum: number, bytes) => sum + bytes!, 0) / rate }
  }

  /** Everything that is left would come in the last moments. */
  get fits(): boolean {
    return this.#disks.every(({ convergence }) => convergence.fits)
  }

  /** It is only kept in step. */
  get isInStep(): boolean {
    return this.#disks.every(({ convergence }) => convergence.isInStep)
  }

  /** Somebody waits for what is left. Resolves when it was judged anew. */
  hurry(): Promise<void> {
    for (const { convergence } of this.#disks) convergence.nudge()
    return this.#judged.promise
  }

  /** The disk tells of each landing. */
  landed(coming: ComingDisk, { piece, bytes, again = 0, kind }: Landed): void {
    const { pacing } = this.#parts
    coming.tally.landed(bytes - again, kind === 'data', piece.isSpared)
    if (kind === 'hole') return
    pacing.meter.add(bytes)
    this.#disks.find((each) => each.coming === coming)?.survey.landed(piece.offset, bytes - again)
  }

  /** Copies until `signal` aborts, then rejects once nothing lands any more. */
  async run(signal: AbortSignal): Promise<void> {
    const surveyed = new AbortController()
    const either = AbortSignal.any([signal, surveyed.signal])
    try {
      void this.#survey(either).catch(() => {}) // It is only an estimate.
      await Promise.all(
        this.#disks.map((each) => this.#keepCopying(each, AbortSignal.any([signal, each.coming.working]))),
      )
    } finally {
      surveyed.abort()
      for (const { seeds } of this.#disks) await seeds.close()
    }
  }

  async #survey(signal: AbortSignal): Promise<void> {
    for (const { survey } of this.#disks) await survey.run(signal)
  }

  async #keepCopying(each: DiskAhead, signal: AbortSignal): Promise<never> {
    const { services } = this.#parts.host
    for (let attempt = 1; ; attempt++) {
      const passes = each.convergence.passes
      try {
        await each.copy.run(signal)
      } catch (error) {
        signal.throwIfAborted()
        if (each.convergence.passes !== passes) attempt = 1
        await this.#failed(each, error, attempt, signal)
      }
      if (attempt > 1) services.log('info', { disk: each.coming.name }, 'copying ahead goes on')
    }
  }

  /** Resolves when it is worth going on. Rejects when `signal` aborts. */
  async #failed({ coming }: DiskAhead, error: unknown, attempt: number, signal: AbortSignal): Promise<void> {
    const { host, right } = this.#parts
    const { clock } = host.services
    host.heed(error)
    if (error instanceof PeerRefusal && error.code === epochOverCode) return clock.sleep(passingPauseMs, signal)
    // Of a move that was cancelled, or is over, the source knows nothing any more: it says so when it is asked how that stands.
    if (error instanceof PeerRefusal && (error.code === noRightCode || error.code === unknownMigrationCode)) {
      await followRight({ ...right, diskName: coming.name }).catch(() => {}) // Whoever waits for it hears why.
      return clock.sleep(Math.max(passingPauseMs, retryDelayMs(attempt)), signal)
    }
    if (error instanceof LinkError) return clock.sleep(retryDelayMs(attempt), signal)
    const where = isNoSpace(error) ? 'the destination has no room' : 'copying ahead waits'
    this.#note(coming, `${where}: ${(error as Error).message}`)
    await clock.sleep(troublePauseMs, signal)
    while (isNoSpace(error) && (await host.services.freeBytes()) < roomBytes) await clock.sleep(troublePauseMs, signal)
  }

  #disk(coming: ComingDisk, inFlight: InFlight): DiskAhead {
    const { host, pacing } = this.#parts
    const { services, source, course } = host
    const { clock } = services
    const { disk, before } = coming
    const convergence = new Convergence({
      clock,
      mustFit: course.terms.mode === 'pre-copy',
      judged: () => this.#judge(coming),
    })
    const extents = (offset: number, length: number, signal: AbortSignal) =>
      source.extents(before, { offset, length }, signal)
    const missing = (first: number, end: number) =>
      [...disk.arriving.ahead.missing({ first, end })].reduce((sum, span) => sum + span.end - span.first, 0)
    const survey = new DataSurvey({
      sizeBytes: disk.sizeBytes,
      clock,
      missingBlocksIn: ({ first, end }) => missing(first, end),
      extents,
    })
    const seeds = new SeedsHere({
      source,
      clock,
      sizeBytes: disk.sizeBytes,
      isFrozen: false, // Its guest goes on there.
      isMissing: () => true, // It is asked for what was given out, and for nothing else.
      open: () => coming.openSeeds(),
    })
    const copy = new PreCopy({
      disk,
      clock,
      ...pacing,
      inFlight,
      convergence,
      roundBytes: services.roundBytes,
      source: new RemoteBlocks({ ...coming.remoteParts(before), source: seeds }),
      track: (copied, signal) => source.track(before, copied, signal),
      collect: (asked, signal) => source.collect({ ...before, ...asked }, signal),
      extents,
      begin: async (epoch, signal) => {
        await seeds.close() // What was copied under the epoch before is one from now on.
        await this.#begin(coming, epoch, signal)
      },
      progressed: () => this.#counted(coming),
      unreadable: (runs) => {
        coming.figures.unreadable = runs
        this.#note(coming, `the source cannot read ${rangesText(runs)}: all else is copied`)
      },
    })
    return { coming, copy, convergence, survey, seeds }
  }

  #begin(coming: ComingDisk, epoch: string, signal: AbortSignal): Promise<void> {
    const { host } = this.#parts
    const begin = () => host.update({}, async () => [await coming.disk.arriving.ahead.begin(epoch)])
    return recorded(host, [coming.disk], 'that it is copied ahead', begin, signal)
  }

  #counted(coming: ComingDisk): void {
    const each = this.#disks.find((one) => one.coming === coming)
    coming.figures.missingBytes = each?.copy.leftBytes ?? coming.figures.missingBytes
  }

  /** A pass over a disk is over. */
  #judge(coming: ComingDisk): void {
    this.#counted(coming)
    if (coming.figures.unreadable.length === 0) this.#note(coming, null)
    this.#judged.resolve()
    this.#judged = Promise.withResolvers()
    if (this.isInStep) void this.#tellReady()
  }

  async #tellReady(): Promise<void> {
    const { host, becameReady } = this.#parts
    if (host.course.record.readyAt !== null || this.#isTellingReady) return
    this.#isTellingReady = true
    try {
      await host.update({ readyAt: host.now() })
      becameReady()
    } catch {
      // The next pass tells it.
    } finally {
      this.#isTellingReady = false
    }
  }

  #note(of: ComingDisk, sentence: string | null): void {
    const { host, coming } = this.#parts
    if (sentence === null && !this.#notes.delete(of)) return
    if (sentence !== null) this.#notes.set(of, coming.length > 1 ? `${of.name}: ${sentence}` : sentence)
    host.note([...this.#notes.values()].join('; ') || null)
  }
}
