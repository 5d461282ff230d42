// What the source lets its destination read of the disk: bytes, data and holes, and digests; and the sync that a guest's
// flush there asks for, before switchover.
//
// What always holds: before switchover the destination reads under the old generation, after it under the new one, and
// never otherwise. The right is looked at again for every piece: what was read under a right that has ended does not leave.

import { sha256 } from '../../block/digest.ts'
import { giveBack } from '../../block/own-memory.ts'
import type { Extent, Piece, Run, Urgency } from '../../block/units.ts'
import { PeerRefusal } from '../../link/channel.ts'
import { noRightCode, startingCode, syncFailedCode } from '../codes.ts'
import type { DiskAt } from '../counterpart.ts'
import type { Course, CourseServices } from '../course.ts'
import { unreadableToPeer } from '../unreadable.ts'
import { type Sent, SentCount } from './sent-count.ts'

const extentsInAnswer = 1024

export class SourceReads {
  readonly #course: Course
  readonly #services: Pick<CourseServices, 'bootId' | 'clock'>
  /** Whether a commit that takes the disk back was tried. */
  readonly #isReclaiming: () => boolean
  #sentCount: SentCount | undefined

  constructor(course: Course, services: Pick<CourseServices, 'bootId' | 'clock'>, isReclaiming: () => boolean) {
    this.#course = course
    this.#services = services
    this.#isReclaiming = isReclaiming
  }

  /** What has left of the frozen disk. undefined: nothing yet, as far as this daemon knows. */
  get sent(): Sent | undefined {
    return this.#sentCount?.now
  }

  /** The destination remembers more than a source that has started anew. Returns what holds now. */
  atLeast(sent: Sent): Sent {
    this.#count.atLeast(sent)
    return this.#count.now
  }

  /** Bytes for the destination: the newest before switchover, the frozen ones after. @throws PeerRefusal */
  async *blocks(
    asked: DiskAt,
    runs: readonly Run[],
    { urgency, signal }: { urgency: Urgency; signal: AbortSignal },
  ): AsyncGenerator<Piece> {
    const { disk } = this.#course
    const { clock } = this.#services
    for (const run of runs) this.#checkRun(run)
    try {
      for await (const piece of disk.departing.pieces(runs, () => clock.turn(urgency), signal)) {
        // Looked at for every piece: what was read under a right that has ended does not leave.
        this.#checkRight(asked)
        if (disk.state === 'departed') this.#count.add(piece)
        yield piece
      }
    } catch (error) {
      throw unreadableToPeer(error)
    }
  }

  /** Resolves when all that was answered here is durable. @throws PeerRefusal `no-right`, `sync-failed` */
  async flush(asked: DiskAt): Promise<{ readonly boot: string }> {
    this.#checkRight(asked)
    const { disk } = this.#course
    try {
      await disk.flush()
    } catch (error) {
      throw new PeerRefusal(syncFailedCode, `the source could not sync ${disk.name} (${(error as Error).message})`)
    }
    return { boot: this.#services.bootId }
  }

  async extents(asked: DiskAt, run: Run): Promise<readonly Extent[]> {
    this.#checkRight(asked)
    this.#checkRun(run)
    const { disk } = this.#course
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
      this.#checkRight(asked)
      this.#checkRun(run)
      const bytes = await this.#readWhole(run)
      const digest = await sha256(bytes, () => clock.turn())
      giveBack(bytes)
      digests.push(digest.toString('base64'))
    }
    this.#checkRight(asked)
    return digests
  }

  async #readWhole(run: Run): Promise<Uint8Array> {
    try {
      return await this.#course.disk.departing.readWhole(run)
    } catch (error) {
      throw unreadableToPeer(error)
    }
  }

  /** Of the frozen disk: what was forwarded before switchover is not copied. */
  get #count(): SentCount {
    this.#sentCount ??= new SentCount(this.#course.disk.sizeBytes)
    return this.#sentCount
  }

  #checkRight({ disk: id, generation }: DiskAt): void {
    const { disk, record } = this.#course
    const moved = this.#course.moved(disk)
    if (id !== disk.record.id) throw new PeerRefusal(noRightCode, `migration ${record.id} is not of disk ${id}`)
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
    if (before || after) return
    throw new PeerRefusal(
      noRightCode,
      `${disk.name} is ${disk.state} in generation ${disk.record.generation}; asked under ${generation}`,
    )
  }

  #checkRun(run: Run): void {
    const { disk } = this.#course
    const aligned = run.offset % 4096 === 0 && (run.length % 4096 === 0 || run.offset + run.length === disk.sizeBytes)
    if (aligned && run.length > 0 && run.offset + run.length <= disk.sizeBytes) return
    throw new PeerRefusal('bad-range', `${run.length} bytes at ${run.offset} are not whole blocks of ${disk.name}`)
  }
}
