// What this site has already of a disk that comes here: opened when the background first fetches, and closed when the disk has
// come. Without any, all is fetched.

import type { Clock } from '../../block/clock.ts'
import type { Piece, Run, Urgency } from '../../block/units.ts'
import type { Seed } from '../copy/seed.ts'
import { SeededBlocks } from '../copy/seeded-blocks.ts'
import type { DiskAt, SourceDesk } from '../counterpart.ts'

export interface SeedsHereParts {
  readonly source: Pick<SourceDesk, 'blocks' | 'digests'>
  readonly clock: Clock
  readonly sizeBytes: number
  readonly isFrozen: boolean
  isMissing(run: Run): boolean
  /** Those that can be opened. Never rejects. */
  open(): Promise<readonly Seed[]>
}

interface Opened {
  readonly seeds: readonly Seed[]
  readonly blocks: SeededBlocks
}

export class SeedsHere implements Pick<SourceDesk, 'blocks'> {
  readonly #parts: SeedsHereParts
  #opened: Promise<Opened> | undefined
  #over = new AbortController()

  constructor(parts: SeedsHereParts) {
    this.#parts = parts
  }

  async *blocks(
    disk: DiskAt,
    runs: readonly Run[],
    options: { urgency: Urgency; signal: AbortSignal },
  ): AsyncGenerator<Piece> {
    this.#opened ??= this.#open()
    const { blocks } = await this.#opened
    yield* blocks.blocks(disk, runs, options)
  }

  async #open(): Promise<Opened> {
    const { open, ...parts } = this.#parts
    this.#over = new AbortController()
    const seeds = await open()
    return { seeds, blocks: new SeededBlocks({ ...parts, seeds, signal: this.#over.signal }) }
  }

  /** Nothing is fetched any more. The next fetch opens them anew. */
  async close(): Promise<void> {
    const opened = this.#opened
    this.#opened = undefined
    this.#over.abort(new Error('the copy is over'))
    for (const seed of (await opened)?.seeds ?? []) await seed.close().catch(() => {}) // It was only read.
  }
}
