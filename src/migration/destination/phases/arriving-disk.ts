// What an arriving disk needs, for itself: its missing blocks, fetched for guests and by the background copy; the comparison with
// the source; and how much of it is still to come. When its turn is, and when it is owned, is the move's business (arriving.ts).

import { spanOf } from '../../../block/span.ts'
import type { Run } from '../../../block/units.ts'
import type { BlockSource } from '../../../disk/block-source.ts'
import type { Landed } from '../../../disk/remote-part.ts'
import { BackgroundCopy } from '../../copy/background-copy.ts'
import { Comparisons } from '../../copy/comparisons.ts'
import { DataSurvey } from '../../copy/data-survey.ts'
import type { Pause } from '../../copy/pause.ts'
import type { RateLimit } from '../../copy/rate-limit.ts'
import type { RateMeter } from '../../copy/rate-meter.ts'
import type { Window } from '../../copy/window.ts'
import { merged, namedRanges } from '../../unreadable.ts'
import type { ComingDisk } from '../coming-disk.ts'
import { type DestinationHost, recorded } from '../host.ts'
import { RemoteBlocks } from '../remote-blocks.ts'
import { SeedsHere } from '../seeds-here.ts'

export interface ArrivingDiskParts {
  readonly host: DestinationHost
  readonly coming: ComingDisk
  readonly meter: RateMeter
  readonly limit: RateLimit
  readonly pause: Pause
  /** What this disk waits for, or null when it goes on. */
  note(sentence: string | null): void
  /** The background copy of it is held up by something, or is not any more. */
  troubled(isTroubled: boolean): void
}

export class ArrivingDisk {
  readonly #parts: ArrivingDiskParts
  readonly #survey: DataSurvey
  readonly coming: ComingDisk
  readonly comparisons: Comparisons
  /** What guests' demand fetches ask for. */
  readonly frozen: BlockSource
  /** What of it is here already. */
  readonly #seeds: SeedsHere

  constructor(parts: ArrivingDiskParts) {
    this.#parts = parts
    this.coming = parts.coming
    const { host, coming, pause, note } = parts
    const { disk } = coming
    const { clock, log } = host.services
    const extents = (offset: number, length: number, signal: AbortSignal) => this.#extents(offset, length, signal)
    this.#survey = new DataSurvey({
      sizeBytes: disk.sizeBytes,
      clock,
      missingBlocksIn: (span) => disk.arriving.missingBlocksIn(span),
      extents,
    })
    this.comparisons = new Comparisons({
      migration: host.course.id,
      disk,
      clock,
      log,
      pause,
      working: coming.working,
      extents,
      digests: (runs, signal) => host.source.digests(coming.frozen, runs, signal),
      recordDiffering: (differing) => this.#recordDiffering(differing),
      note,
    })
    this.frozen = this.#demanded()
    this.#seeds = new SeedsHere({
      source: host.source,
      clock,
      sizeBytes: disk.sizeBytes,
      isFrozen: true,
      isMissing: ({ offset, length }) => disk.arriving.missingBlocksIn(spanOf(offset, length)) > 0,
      open: () => coming.openSeeds(),
    })
  }

  /** It has come, or is not copied any more. */
  closeSeeds(): Promise<void> {
    return this.#seeds.close()
  }

  get isLacking(): boolean {
    return this.coming.disk.arriving.missingBlocks > 0
  }

  /** Bytes of data that are still to come; undefined: not known yet. */
  get missingDataBytes(): number | undefined {
    return this.coming.isArriving ? this.#survey.missingBytes : 0
  }

  /** Resolves when it is known how much data is missing. Rejects when `signal` aborts. */
  async survey(signal: AbortSignal): Promise<void> {
    if (this.coming.isArriving) await this.#survey.run(AbortSignal.any([signal, this.coming.working]))
  }

  copy(window: Window, signal: AbortSignal): BackgroundCopy {
    const { host, coming, limit, pause, note, troubled } = this.#parts
    const { services } = host
    const parts = {
      disk: coming.disk,
      clock: services.clock,
      source: new RemoteBlocks({ ...coming.remoteParts(coming.frozen), source: this.#seeds }),
      extents: (offset: number, length: number, limited: AbortSignal) => this.#extents(offset, length, limited),
      limit,
      pause,
      window,
      freeBytes: () => services.freeBytes(),
      trouble: (sentence: string | null, unreadable: readonly Run[]) => {
        coming.figures.unreadable = unreadable
        troubled(sentence !== null)
        note(sentence)
      },
    }
    return new BackgroundCopy(parts, signal)
  }

  /** The disk tells of each landing, whoever had it fetched. */
  landed({ piece, bytes, kind }: Landed): void {
    const { coming, meter } = this.#parts
    coming.tally.landed(bytes, kind === 'data', piece.isSpared)
    if (kind !== 'hole') {
      meter.add(bytes) // A hole takes no time: it says nothing of how long the rest takes.
      this.#survey.landed(piece.offset, bytes)
    }
    coming.countMissing()
  }

  #extents(offset: number, length: number, signal: AbortSignal) {
    const { host, coming } = this.#parts
    return host.source.extents(coming.frozen, { offset, length }, signal)
  }

  /** They are named at the end, at both sites. That they are missing is durable first: a power loss must not bring them back. */
  async #recordDiffering(differing: readonly Run[]): Promise<void> {
    const { host, coming } = this.#parts
    const { disk } = coming
    if (differing.length === 0) return
    await recorded(host, [disk], 'that it differed from the source', () => disk.flush(), coming.working)
    const differed = merged([...coming.moved.differed, ...differing]).slice(0, namedRanges)
    await host.update({ disks: { [disk.id]: { differed } } }).catch(() => {}) // The log has them, and what they said is missing again already.
  }

  /** A guest's demand fetch ends when the disk is superseded. */
  #demanded(): BlockSource {
    const { coming } = this.#parts
    const blocks = new RemoteBlocks(coming.remoteParts(coming.frozen))
    const { leaving } = coming
    return {
      fetch: (runs, { urgency, signal }) => blocks.fetch(runs, { urgency, signal: AbortSignal.any([signal, leaving]) }),
    }
  }
}
