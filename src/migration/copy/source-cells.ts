// The source's digests of cells and of blocks. A question that the source refuses is no failure: nothing is known then, and all
// is fetched.

import { blockSizeBytes } from '../../block/block-map.ts'
import { shortDigestBytes } from '../../block/digest.ts'
import type { Run } from '../../block/units.ts'
import { PeerRefusal } from '../../link/channel.ts'
import type { DiskAt, SourceDesk } from '../counterpart.ts'
import { cellBytes } from './seed.ts'
import { digestedBytes, digestsAtOnce } from './verification.ts'

/** By the offset of the cell, or block. */
export type Cells = ReadonlyMap<number, string>

/** What a question and its answer weigh beside the digests. */
const questionBytes = 400
/** Answers that are kept. */
const keptAnswers = 16

const nothing: Cells = new Map()

/** Answers that hold: each is asked for once, whoever asks first. One that failed is asked for again. */
export class KeptAnswers {
  /** The latest last. */
  readonly #kept = new Map<number, Promise<Cells>>()

  once(key: number, ask: () => Promise<Cells>): Promise<Cells> {
    const known = this.#kept.get(key)
    if (known) return known
    const asked = ask()
    this.#kept.set(key, asked)
    asked.catch(() => this.#kept.delete(key)) // It is told to whoever waits.
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= keptAnswers) break
      this.#kept.delete(oldest)
    }
    return asked
  }
}

export class SourceCells {
  readonly #source: Pick<SourceDesk, 'digests'>

  constructor(source: Pick<SourceDesk, 'digests'>) {
    this.#source = source
  }

  /** Digests of cells. `cost` is told what is asked. @throws LinkError */
  cells(disk: DiskAt, cells: readonly Run[], signal: AbortSignal, cost: (bytes: number) => void): Promise<Cells> {
    return this.#digests(disk, cells, cellBytes, signal, cost)
  }

  /** Digests of the blocks of runs. @throws LinkError */
  blocks(disk: DiskAt, runs: readonly Run[], signal: AbortSignal, cost: (bytes: number) => void): Promise<Cells> {
    return this.#digests(disk, runs, blockSizeBytes, signal, cost)
  }

  async #digests(
    disk: DiskAt,
    asked: readonly Run[],
    stepBytes: number,
    signal: AbortSignal,
    cost: (bytes: number) => void,
  ): Promise<Cells> {
    const found = new Map<number, string>()
    const runs = questionsOf(asked)
    try {
      for (let at = 0; at < runs.length; at += digestsAtOnce) {
        const some = runs.slice(at, at + digestsAtOnce)
        const places = some.flatMap(({ offset, length }) => stepsOf(offset, length, stepBytes))
        cost(questionBytes + places.length * shortDigestBytes)
        const digests = await this.#source.digests(disk, some, signal, stepBytes)
        for (const [index, place] of places.entries()) if (digests[index]) found.set(place, digests[index])
      }
      return found
    } catch (error) {
      if (error instanceof PeerRefusal) return nothing
      throw error
    }
  }
}

/** Neighbours in one run, and none longer than a question may have. */
function questionsOf(asked: readonly Run[]): Run[] {
  const runs: { offset: number; length: number }[] = []
  for (const run of asked) {
    const last = runs.at(-1)
    const follows = last && last.offset + last.length === run.offset && last.length + run.length <= digestedBytes
    if (follows) last.length += run.length
    else runs.push({ ...run })
  }
  return runs
}

function stepsOf(offset: number, length: number, stepBytes: number): number[] {
  return Array.from({ length: Math.ceil(length / stepBytes) }, (_, step) => offset + step * stepBytes)
}
