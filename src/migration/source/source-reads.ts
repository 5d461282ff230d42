// What the source lets its destination read of the disks: bytes, data and holes, and digests; before switchover also what its
// guests have written since, and the sync that a guest's flush there asks for.
//
// What always holds: before switchover the destination reads under the old generation, after it under the new one, and
// never otherwise. The right is looked at again for every piece: what was read under a right that has ended does not leave.

import { sha256 } from '../../block/digest.ts'
import { giveBack } from '../../block/own-memory.ts'
import { spanOf } from '../../block/span.ts'
import type { Extent, Piece, Run, Urgency } from '../../block/units.ts'
import { EpochOver } from '../../disk/departing.ts'
import type { Disk } from '../../disk/disk.ts'
import { PeerRefusal } from '../../link/channel.ts'
import { epochOverCode, noRightCode, startingCode, syncFailedCode } from '../codes.ts'
import type { Collected, Collection, Copied, DiskAt, Tracked } from '../counterpart.ts'
import type { Course, CourseServices } from '../course.ts'
import { leftRefusal } from '../supersession.ts'
import { unreadableToPeer } from '../unreadable.ts'
import { type Sent, SentCount } from './sent-count.ts'

const extentsInAnswer = 1024

export class SourceReads {
  readonly #course: Course
  readonly #services: Pick<CourseServices, 'bootId' | 'clock'>
  /** Whether a commit that takes the disks back was tried. */
  readonly #isReclaiming: () => boolean
  /** By the ids of the disks. */
  readonly #counts = new Map<string, SentCount>()

  constructor(course: Course, services: Pick<CourseServices, 'bootId' | 'clock'>, isReclaiming: () => boolean) {
    this.#course = course
    this.#services = services
    this.#isReclaiming = isReclaiming
  }

  /** What has been copied of a disk. undefined: nothing yet, as far as this daemon knows. */
  sentOf({ id }: { readonly id: string }): Sent | undefined {
    return this.#counts.get(id)?.now
  }

  /** The destination remembers more than a source that has started anew. Returns what holds now. */
  atLeast(disk: Disk, sent: Sent): Sent {
    const count = this.#countOf(disk)
    count.atLeast(sent)
    return count.now
  }

  /** Bytes for the destination: the newest before switchover, the frozen ones after. @throws PeerRefusal */
  async *blocks(
    asked: DiskAt,
    runs: readonly Run[],
    { urgency, signal }: { urgency: Urgency; signal: AbortSignal },
  ): AsyncGenerator<Piece> {
    const { clock } = this.#services
    const disk = this.#diskOf(asked)
    for (const run of runs) checkRun(disk, run)
    try {
      for await (const piece of disk.departing.pieces(runs, () => clock.turn(urgency), signal)) {
        // Looked at for every piece: what was read under a right that has ended does not leave.
        this.#checkRight(asked)
        // What is forwarded before switchover is not copied.
        if (disk.state === 'departed' || urgency === 'background') this.#countOf(disk).add(piece)
        yield piece
      }
    } catch (error) {
      throw unreadableToPeer(error)
    }
  }

  /** Resolves when all that was answered here is durable. @throws PeerRefusal `no-right`, `sync-failed` */
  async flush(asked: DiskAt): Promise<{ readonly boot: string }> {
    const disk = this.#checkRight(asked)
    try {
      await disk.flush()
    } catch (error) {
      throw new PeerRefusal(syncFailedCode, `the source could not sync ${disk.name} (${(error as Error).message})`)
    }
    return { boot: this.#services.bootId }
  }

  /** From now on guests' writes are tracked for whoever copies the disk before switchover. @throws PeerRefusal */
  async track(asked: DiskAt, copied: Copied | null): Promise<Tracked> {
    const { tracking } = this.#tracked(asked)
    const tracked = await epochOr(tracking.track(copied))
    this.#tracked(asked)
    return tracked
  }

  /** What is to be copied next. @throws PeerRefusal */
  async collect(asked: Collection): Promise<Collected> {
    const { epoch, run, most, hot, round, confirmed } = asked
    const { disk, tracking } = this.#tracked(asked)
    checkRun(disk, run)
    const wanted = { span: spanOf(run.offset, run.length), most, hot }
    const given = await epochOr(tracking.collect(epoch, { round, confirmed }, wanted))
    this.#tracked(asked)
    return given
  }

  /** Only before switchover, and not while it is being decided: then all that is lacking is told with the grant. */
  #tracked(asked: DiskAt): { readonly disk: Disk; readonly tracking: Disk['departing']['tracking'] } {
    const disk = this.#checkRight(asked)
    if (disk.state !== 'owned')
      throw new PeerRefusal(noRightCode, `${disk.name} has departed: what it lacks was told with the grant`)
    if (disk.isVoid || disk.gate.frozen) throw new PeerRefusal(startingCode, `${disk.name} is frozen`)
    if (disk.isFailed) throw new PeerRefusal(syncFailedCode, `${disk.name}: ${disk.trouble}`)
    return { disk, tracking: disk.departing.tracking }
  }

  async extents(asked: DiskAt, run: Run): Promise<readonly Extent[]> {
    const disk = this.#checkRight(asked)
    checkRun(disk, run)
    return disk.departing.alignedExtents(run, extentsInAnswer, async () => {
      await this.#services.clock.turn()
      this.#checkRight(asked)
    })
  }

  async digests(asked: DiskAt, runs: readonly Run[]): Promise<readonly string[]> {
    const { clock } = this.#services
    const digests: string[] = []
    for (const run of runs) {
      await clock.turn()
      const disk = this.#checkRight(asked)
      checkRun(disk, run)
      const bytes = await readWhole(disk, run)
      const digest = await sha256(bytes, () => clock.turn())
      giveBack(bytes)
      digests.push(digest.toString('base64'))
    }
    this.#checkRight(asked)
    return digests
  }

  #countOf({ id, sizeBytes }: Disk): SentCount {
    const count = this.#counts.get(id) ?? new SentCount(sizeBytes)
    this.#counts.set(id, count)
    return count
  }

  #diskOf({ disk: id, generation }: DiskAt): Disk {
    const { disks, inMove, record } = this.#course
    const disk = inMove.find((each) => each.id === id)
    if (disk) return disk
    const left = disks.find((each) => each.id === id)
    // Whoever has taken it would ask for ever, and hold up the others: that it is void is durable here.
    if (left && generation === this.#course.moved(left).generation) throw leftRefusal(left, generation)
    throw new PeerRefusal(noRightCode, `migration ${record.id} is not of disk ${id}`)
  }

  #checkRight(asked: DiskAt): Disk {
    const { record } = this.#course
    const { generation } = asked
    const disk = this.#diskOf(asked)
    const moved = this.#course.moved(disk)
    const before =
      generation === moved.generation - 1 && disk.state === 'owned' && ['preparing', 'ready'].includes(record.state)
    const after =
      generation === moved.generation &&
      disk.state === 'departed' &&
      record.state === 'copying' &&
      !this.#isReclaiming()
    if (before && disk.isHeld)
      throw new PeerRefusal(
        startingCode,
        `${disk.name} may have lost writes with the power of its host: it waits for its operator`,
      )
    if (before || after) return disk
    throw new PeerRefusal(
      noRightCode,
      `${disk.name} is ${disk.state} in generation ${disk.record.generation}; asked under ${generation}`,
    )
  }
}

/** @throws PeerRefusal that says that it is to be tracked anew */
async function epochOr<Answer>(work: Promise<Answer>): Promise<Answer> {
  try {
    return await work
  } catch (error) {
    if (error instanceof EpochOver) throw new PeerRefusal(epochOverCode, error.message)
    throw error
  }
}

function checkRun(disk: Disk, run: Run): void {
  const aligned = run.offset % 4096 === 0 && (run.length % 4096 === 0 || run.offset + run.length === disk.sizeBytes)
  if (aligned && run.length > 0 && run.offset + run.length <= disk.sizeBytes) return
  throw new PeerRefusal('bad-range', `${run.length} bytes at ${run.offset} are not whole blocks of ${disk.name}`)
}

async function readWhole(disk: Disk, run: Run): Promise<Uint8Array> {
  try {
    return await disk.departing.readWhole(run)
  } catch (error) {
    throw unreadableToPeer(error)
  }
}
