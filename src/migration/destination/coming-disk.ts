// One disk of a move at its destination: whether it is still in the move, where its bytes are at the source, and what of it has
// come. The phases of the course ask here for what concerns one disk alone.

import { blockSizeBytes } from '../../block/block-map.ts'
import type { Disk } from '../../disk/disk.ts'
import type { MovedDisk } from '../../store/records.ts'
import { type Seed, seedOf } from '../copy/seed.ts'
import type { DiskAt } from '../counterpart.ts'
import type { DiskFigures } from '../course.ts'
import type { Supersession } from '../supersession.ts'
import type { DestinationHost } from './host.ts'
import type { RemoteBlocksParts } from './remote-blocks.ts'
import { Tally } from './tally.ts'

/** Less is fetched anew in no time. */
const leastOwnBytes = 2 ** 20

export class ComingDisk {
  readonly disk: Disk
  readonly tally: Tally
  readonly #host: DestinationHost
  readonly #leaving = new AbortController()
  readonly #left = Promise.withResolvers<void>()
  /** Ends when this site stops, and when the disk leaves the move or the move is ended without its source. */
  readonly working: AbortSignal
  /** The word that a later generation exists, which is not on record yet. */
  supersededBy: Supersession | undefined

  constructor(host: DestinationHost, disk: Disk) {
    this.#host = host
    this.disk = disk
    this.tally = new Tally(this.moved.counters)
    this.working = AbortSignal.any([host.stopping, this.leaving])
    if (disk.state === 'arriving' && !disk.isUnusable) this.countMissing()
    if (disk.state === 'owned') this.figures.missingBytes = 0
  }

  get id(): string {
    return this.disk.id
  }

  get name(): string {
    return this.disk.name
  }

  /** What the record of the move says of it. */
  get moved(): MovedDisk {
    return this.#host.course.moved(this.disk)
  }

  get figures(): DiskFigures {
    return this.#host.course.figures(this.disk)
  }

  countMissing(): void {
    this.figures.missingBytes = this.disk.arriving.missingBlocks * blockSizeBytes
  }

  // ---- its way through the move

  get isInMove(): boolean {
    return !this.moved.hasLeft
  }

  get isIncoming(): boolean {
    return this.isInMove && this.disk.state === 'incoming'
  }

  get isArriving(): boolean {
    return this.isInMove && this.disk.state === 'arriving'
  }

  /** Aborts when it is superseded, or the operator ends the move without its source. */
  get leaving(): AbortSignal {
    return this.#leaving.signal
  }

  leave(reason: string): void {
    this.#leaving.abort(new Error(reason))
  }

  /** Resolves when it is on record that it is superseded. */
  get left(): Promise<void> {
    return this.#left.promise
  }

  hasLeft(): void {
    Object.assign(this.figures, { missingBytes: 0, unreadable: [] })
    this.#left.resolve()
  }

  // ---- at the source

  /** Under the generation that the move leads to: frozen there once it was granted. */
  get frozen(): DiskAt {
    return { disk: this.id, generation: this.moved.generation }
  }

  /** Under the generation that the source has until it has given the disk up. */
  get before(): DiskAt {
    return { disk: this.id, generation: this.moved.generation - 1 }
  }

  // ---- what is here of it already

  /** The bytes that it had here before it left, and the seed that the operator named. Never rejects. */
  async openSeeds(): Promise<readonly Seed[]> {
    const { seed: named } = this.#host.course.terms
    const own = this.#ownBytes()
    const before = await this.disk.arriving.openOldBytes()
    const seed = named === undefined ? undefined : await this.#host.services.seeds?.open(named, this.id)
    if (named !== undefined && !seed) {
      const facts = { migration: this.#host.course.id, disk: this.name, seed: named }
      this.#host.services.log('warn', facts, 'the seed cannot be read any more: it spares nothing')
    }
    return [
      ...own,
      ...(before ? [seedOf(before, `what ${this.name} was here before`, false)] : []),
      ...(seed ? [seed] : []),
    ]
  }

  /** What stands in its file and does not count as here, because it was copied under an epoch that is over. */
  #ownBytes(): readonly Seed[] {
    const { disk } = this
    if (disk.allocatedBytes() < disk.present.bytes + leastOwnBytes) return []
    const { arriving, sizeBytes } = disk
    const file = {
      sizeBytes,
      read: (offset: number, target: Uint8Array) => arriving.read(offset, target),
      extents: (offset: number, lengthBytes: number, limit: number) => arriving.extents(offset, lengthBytes, limit),
      close: async () => {}, // It is the disk's.
    }
    return [seedOf(file, `what was copied of ${disk.name} before`, false)]
  }

  // ---- reads of the source

  /** For reads of the source's blocks, under a generation. Whatever the source refuses is heeded. */
  remoteParts(at: DiskAt): RemoteBlocksParts {
    const { source, services, course, heed } = this.#host
    return {
      source,
      clock: services.clock,
      disk: at,
      stallTimeoutMs: course.terms.stallTimeoutMs,
      refused: async (error) => {
        await heed(error)
        throw error
      },
    }
  }
}
