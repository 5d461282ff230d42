// What the source lets its destination read of the disk: bytes, data and holes, and digests; and the sync that a guest's
// flush there asks for, before switchover.
//
// What always holds: before switchover the destination reads under the old generation, after it under the new one, and
// never otherwise. The right is looked at again for every piece: what was read under a right that has ended does not leave.

import { giveBack } from '../../block/own-memory.ts'
import type { Run } from '../../disk/block-source.ts'
import { type FetchRequest, PeerRefusal, type Piece, type Urgency } from '../../link/channel.ts'
import { digestOf } from '../copy/verification.ts'
import type { Course, CourseServices } from '../course.ts'
import { startingCode } from '../destination/remote-blocks.ts'
import type { digestsMessage, extentsMessage, FlushAnswer, flushMessage } from '../messages.ts'
import { alignedExtentsInTurns, readFrozen, readPieces } from './frozen-reader.ts'
import { type Sent, SentCount } from './sent-count.ts'

/** The source cannot make durable what it has answered. */
export const syncFailedCode = 'sync-failed'
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
  async *fetch(request: FetchRequest, urgency: Urgency, signal: AbortSignal): AsyncGenerator<Piece> {
    const { disk } = this.#course
    const { clock } = this.#services
    for (const run of request.runs) this.#checkRun(run)
    for await (const piece of readPieces(disk, request.runs, () => clock.turn(urgency), signal)) {
      // Looked at for every piece: what was read under a right that has ended does not leave.
      this.#checkRight(request.generation)
      if (disk.state === 'departed') this.#count.add(piece)
      yield piece
    }
  }

  /** Resolves when all that was answered here is durable. @throws PeerRefusal `no-right`, `sync-failed` */
  async flush({ generation }: ReturnType<typeof flushMessage.parse>): Promise<FlushAnswer> {
    this.#checkRight(generation)
    const { disk } = this.#course
    try {
      await disk.flush()
    } catch (error) {
      throw new PeerRefusal(syncFailedCode, `the source could not sync ${disk.name} (${(error as Error).message})`)
    }
    return { boot: this.#services.bootId }
  }

  async extents({ generation, offset, length }: ReturnType<typeof extentsMessage.parse>): Promise<object> {
    this.#checkRight(generation)
    this.#checkRun({ offset, length })
    const { disk } = this.#course
    const extents = await alignedExtentsInTurns(disk, { offset, length }, extentsInAnswer, async () => {
      await this.#services.clock.turn()
      this.#checkRight(generation)
    })
    return { extents: extents.map((extent) => ({ length: extent.length, data: extent.data })) }
  }

  async digests({ generation, runs }: ReturnType<typeof digestsMessage.parse>): Promise<object> {
    const { clock } = this.#services
    const digests: string[] = []
    for (const run of runs) {
      await clock.turn()
      this.#checkRight(generation)
      this.#checkRun(run)
      const bytes = await readFrozen(this.#course.disk, run)
      digests.push(await digestOf(bytes, clock))
      giveBack(bytes)
    }
    this.#checkRight(generation)
    return { digests }
  }

  /** Of the frozen disk: what was forwarded before switchover is not copied. */
  get #count(): SentCount {
    this.#sentCount ??= new SentCount(this.#course.disk.sizeBytes)
    return this.#sentCount
  }

  #checkRight(generation: number): void {
    const { disk, record } = this.#course
    const before =
      generation === record.generation - 1 && disk.state === 'owned' && ['preparing', 'ready'].includes(record.state)
    const after =
      generation === record.generation &&
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
      'no-right',
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
