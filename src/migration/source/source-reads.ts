// What the source lets its destination read of the disks: bytes, data and holes, and digests; and the sync that a guest's
// flush there asks for, before switchover.
//
// What always holds: before switchover the destination reads under the old generation, after it under the new one, and
// never otherwise. The right is looked at again for every piece: what was read under a right that has ended does not leave.

import { sha256 } from '../../block/digest.ts'
import { giveBack } from '../../block/own-memory.ts'
import type { Extent, Piece, Run, Urgency } from '../../block/units.ts'
import type { Disk } from '../../disk/disk.ts'
import { PeerRefusal } from '../../link/channel.ts'
import { noRightCode, startingCode, syncFailedCode } from '../codes.ts'
import type { DiskAt } from '../counterpart.ts'
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
  /** Of frozen disks, by their ids: what was forwarded before switchover is not copied. */
  readonly #counts = new Map<string, SentCount>()

  constructor(course: Course, services: Pick<CourseServices, 'bootId' | 'clock'>, isReclaiming: () => boolean) {
    this.#course = course
    this.#services = services
    this.#isReclaiming = isReclaiming
  }

  /** What has left of a frozen disk. undefined: nothing yet, as far as this daemon knows. */
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
      for await (const piece of disk.departing.pieces(runs, () => clock.turn(urgency, this.#peerId), signal)) {
        // Looked at for every piece: what was read under a right that has ended does not leave.
        this.#checkRight(asked)
        if (disk.state === 'departed') this.#countOf(disk).add(piece)
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

  async extents(asked: DiskAt, run: Run): Promise<readonly Extent[]> {
    const disk = this.#checkRight(asked)
    checkRun(disk, run)
    return disk.departing.alignedExtents(run, extentsInAnswer, async () => {
      await this.#services.clock.turn('background', this.#peerId)
      this.#checkRight(asked)
    })
  }

  async digests(asked: DiskAt, runs: readonly Run[]): Promise<readonly string[]> {
    const { clock } = this.#services
    const digests: string[] = []
    for (const run of runs) {
      await clock.turn('background', this.#peerId)
      const disk = this.#checkRight(asked)
      checkRun(disk, run)
      const bytes = await readWhole(disk, run)
      const digest = await sha256(bytes, () => clock.turn('background', this.#peerId))
      giveBack(bytes)
      digests.push(digest.toString('base64'))
    }
    this.#checkRight(asked)
    return digests
  }

  /** For whom all of this is done: it has one turn of the loop after the other, beside those of others. */
  get #peerId(): string {
    return this.#course.record.peerId
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
