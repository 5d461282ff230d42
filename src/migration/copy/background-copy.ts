// Copies everything that is still missing of a disk, after switchover, from the lowest block up, again until nothing is missing.
// Holes come as metadata and land by punching; data in chunks, as many in flight as the window says.
//
// What always holds: at most `unsavedBoundBytes` of what landed is not yet durable together with its bits, so that a
// power loss costs no more than that to send again (promise 8).

import { blockSizeBytes } from '../../block/block-map.ts'
import type { Clock } from '../../block/clock.ts'
import { giveBack } from '../../block/own-memory.ts'
import type { Extent, Piece, Run } from '../../block/units.ts'
import type { BlockSource } from '../../disk/block-source.ts'
import type { Disk } from '../../disk/disk.ts'
import { isNoSpace } from '../../disk/room.ts'
import { PeerRefusal } from '../../link/channel.ts'
import { merged, rangesText, unreadableIn } from '../unreadable.ts'
import type { Pause } from './pause.ts'
import type { RateLimit } from './rate-limit.ts'
import type { Window } from './window.ts'

const chunkBytes = 256 * 1024
const unsavedBoundBytes = 48 * 2 ** 20
/** Extents are asked for this much of the disk at a time, and so much of a hole lands at once. */
const extentSpanBytes = 2 ** 40
const lookForRoomBytes = 64 * 2 ** 20
const troublePauseMs = 1000
const longestUnreadablePauseMs = 30_000
/** A full disk is tried again when it has this much room. */
const roomBytes = 2 ** 20
/** What has to land after a trouble before it counts as over: a quota lets a little through at each try. */
const overBytes = 2 ** 20

export interface BackgroundCopyParts {
  readonly disk: Disk
  readonly clock: Clock
  readonly source: BlockSource
  /** Extents of the frozen disk that cover a beginning of the range. */
  extents(offset: number, lengthBytes: number, signal: AbortSignal): Promise<readonly Extent[]>
  readonly limit: RateLimit
  readonly pause: Pause
  /** One for all disks of a move: they come over the same path, one after the other. */
  readonly window: Window
  /** What it waits for, or null when it goes on; and the ranges that the source cannot read. */
  trouble(sentence: string | null, unreadable: readonly Run[]): void
  /** Room for what lands. */
  freeBytes(): Promise<number>
}

export class BackgroundCopy {
  readonly #parts: BackgroundCopyParts
  readonly #signal: AbortSignal
  #inFlightBytes = 0
  /** Since it was last looked whether there is room. */
  #unlookedBytes = 0
  readonly #tasks = new Set<Promise<void>>()
  #failure: unknown
  /** Of `overBytes`, what is still to land before the trouble that held all up is over. 0: there is none. */
  #overInBytes = 0
  /** What the source could not read in this pass. */
  readonly #unreadable: Run[] = []
  /** Extents from the last question, of which the copy makes its way through. */
  #extents: readonly Extent[] = []

  constructor(parts: BackgroundCopyParts, signal: AbortSignal) {
    this.#parts = parts
    this.#signal = signal
  }

  /**
   * Resolves to true when nothing is missing; to false when nothing is but what the source cannot read, and other disks of the
   * move wait for their turn. Rejects only when `signal` aborts or a sync failed.
   */
  async run(othersWait: () => boolean = () => false): Promise<boolean> {
    const { disk, clock, trouble } = this.#parts
    this.#extents = [] // What was a hole, as the source said, may be what the comparison has found to be wrong.
    let pauseMs = troublePauseMs
    while (disk.arriving.missingBlocks > 0) {
      try {
        await this.#pass()
        this.#troubleIsOver()
        pauseMs = troublePauseMs
      } catch (error) {
        this.#signal.throwIfAborted()
        if (disk.isFailed) throw error
        const bad = error instanceof UnreadableRanges ? error.runs : []
        trouble(bad.length > 0 ? (error as Error).message : waitsFor(error as Error), bad)
        this.#overInBytes = bad.length > 0 ? 0 : overBytes // Ranges that cannot be read do not hold up the rest.
        if (bad.length > 0 && othersWait()) return false
        await clock.sleep(pauseMs, this.#signal)
        // A failing disk is not worn out by reading it again and again; anything else may be over in a moment.
        pauseMs = bad.length > 0 ? Math.min(longestUnreadablePauseMs, pauseMs * 2) : troublePauseMs
        if (isNoSpace(error)) await this.#awaitRoom()
      }
    }
    return true
  }

  #troubleIsOver(): void {
    this.#overInBytes = 0
    this.#parts.trouble(null, [])
  }

  /** Nothing is fetched that could not be kept. A quota does not show here: then one window is sent for each try. */
  async #awaitRoom(): Promise<void> {
    const { clock, freeBytes } = this.#parts
    while ((await freeBytes()) < roomBytes) await clock.sleep(troublePauseMs, this.#signal)
  }

  /** A bound on what a peer may have here shows in the room that it has, and in no write. */
  async #checkRoom(lengthBytes: number): Promise<void> {
    this.#unlookedBytes += lengthBytes
    if (this.#unlookedBytes < lookForRoomBytes) return
    this.#unlookedBytes = 0
    if ((await this.#parts.freeBytes()) > 0) return
    const message = 'there is none, or the peer has all that it may have here (vmstore peer show)'
    throw Object.assign(new Error(message), { code: 'no-space' })
  }

  /** Once over the disk. Blocks that guests are writing meanwhile are left to the next pass. */
  async #pass(): Promise<void> {
    const { arriving } = this.#parts.disk
    try {
      for (let from = 0; ; ) {
        await this.#parts.clock.turn() // Of a fragmented disk thousands of holes follow each other, and land at once.
        await this.#parts.pause.passed(this.#signal)
        const next = arriving.firstMissing(from, 1)
        if (!next) break
        const extent = await this.#extentAt(next.first * blockSizeBytes)
        const mostBytes = extent.data ? chunkBytes : extentSpanBytes
        const missing = arriving.firstMissing(next.first, mostBytes / blockSizeBytes)
        if (!missing) break
        if (missing.first !== next.first) continue // A demand fetch brought it meanwhile.
        const offset = missing.first * blockSizeBytes
        const missingEnd = Math.min(missing.end * blockSizeBytes, this.#parts.disk.sizeBytes)
        const end = Math.min(missingEnd, extent.offset + extent.length, extent.data ? offset + chunkBytes : missingEnd)
        if (extent.data) await this.#checkRoom(end - offset)
        if (extent.data) await this.#start(offset, end - offset)
        else await this.#land({ offset, length: end - offset, bytes: undefined, hole: true })
        from = Math.ceil(end / blockSizeBytes)
        // A range that the source cannot read does not keep the rest from coming; a disk that is full here does.
        if (this.#failure && !isOfOneRange(this.#failure)) break
      }
    } finally {
      await Promise.all(this.#tasks)
    }
    const failure = this.#failure
    this.#failure = undefined
    const bad = merged(this.#unreadable.splice(0))
    if (failure) throw failure
    if (bad.length > 0) throw new UnreadableRanges(bad)
    // What is still missing was held by guest writes or other landings: wait for these, not in a busy loop.
    const left = arriving.firstMissing(0, 1)
    if (left) await arriving.unsettled(left)
  }

  async #extentAt(offset: number): Promise<Extent> {
    const known = this.#extents.find((extent) => offset >= extent.offset && offset < extent.offset + extent.length)
    if (known) return known
    const lengthBytes = Math.min(extentSpanBytes, this.#parts.disk.sizeBytes - offset)
    this.#extents = await this.#parts.extents(offset, lengthBytes, this.#signal)
    return this.#extents[0]!
  }

  /** Starts a chunk as soon as the window and the rate let it. */
  async #start(offset: number, lengthBytes: number): Promise<void> {
    while (this.#inFlightBytes > 0 && this.#inFlightBytes + lengthBytes > this.#parts.window.bytes)
      await Promise.race(this.#tasks)
    await this.#parts.limit.pass(lengthBytes, this.#signal)
    await this.#parts.pause.passed(this.#signal) // It may have begun while this chunk waited for its turn.
    this.#signal.throwIfAborted()
    this.#inFlightBytes += lengthBytes
    const task = this.#fetch(offset, lengthBytes)
      .catch((error: unknown) => {
        this.#failure ??= error
        this.#parts.window.lost()
      })
      .finally(() => {
        this.#inFlightBytes -= lengthBytes
        this.#tasks.delete(task)
      })
    this.#tasks.add(task)
  }

  async #fetch(offset: number, lengthBytes: number): Promise<void> {
    const { clock, source, limit } = this.#parts
    const startedMs = clock.now()
    const end = offset + lengthBytes
    let costless = 0
    let sparedBytes = 0
    for (let at = offset; at < end; ) {
      try {
        const runs = [{ offset: at, length: end - at }]
        for await (const piece of source.fetch(runs, { urgency: 'background', signal: this.#signal })) {
          if (!piece.bytes || piece.isSpared) costless += piece.length
          if (piece.isSpared) sparedBytes += piece.length
          await this.#land(piece)
          giveBack(piece.bytes)
        }
        break
      } catch (error) {
        const bad = unreadableIn(error)
        if (!bad || bad.offset < at || bad.offset >= end) throw error
        this.#unreadable.push(bad)
        at = bad.offset + bad.length // What lies before it has come.
      }
    }
    limit.giveBack(costless)
    // What did not travel says nothing of the path.
    if (sparedBytes === 0) this.#parts.window.answered(lengthBytes, clock.now() - startedMs)
  }

  async #land(piece: Piece): Promise<void> {
    const { disk } = this.#parts
    const { length, bytes } = piece
    while (bytes && disk.arriving.unsavedBytes + length > unsavedBoundBytes) await disk.flush()
    await disk.arriving.land(piece, 'background')
    // The pass may take hours yet.
    if (!bytes || this.#overInBytes === 0) return
    this.#overInBytes = Math.max(0, this.#overInBytes - length)
    if (this.#overInBytes === 0) this.#troubleIsOver()
  }
}

/** Which side is meant has to be seen at both. */
function waitsFor(error: Error): string {
  const where = isNoSpace(error) ? 'the destination has no room' : 'the background copy waits'
  return `${where}: ${error.message}`
}

/** Everything else has come. */
class UnreadableRanges extends Error {
  readonly runs: readonly Run[]

  constructor(runs: readonly Run[]) {
    super(`the source cannot read ${rangesText(runs)}: all else is copied, and the source is not released`)
    this.runs = runs
  }
}

/** The source failed at a range, such as one that its disk cannot read; any other refusal is of all ranges. */
function isOfOneRange(failure: unknown): boolean {
  return failure instanceof PeerRefusal && failure.code === 'internal'
}
