// Compares an arriving disk with the frozen source, before the source is released: every block that the guest did not
// write here, by hash (holes as holes). A block that differs is missing again, durably, and is fetched anew.
//
// What always holds: a range is judged only if no guest wrote to it, or began to, until its bytes were read here; else
// it is looked at again without what the guest wrote.

import { blockSizeBytes } from '../../block/block-map.ts'
import type { Clock } from '../../block/clock.ts'
import { sha256 } from '../../block/digest.ts'
import { giveBack, withOwnMemory } from '../../block/own-memory.ts'
import { type Span, spanOf } from '../../block/span.ts'
import type { Extent, Run } from '../../block/units.ts'
import type { Disk } from '../../disk/disk.ts'
import type { Pause } from './pause.ts'

/** The longest range that one digest speaks of. */
export const digestedBytes = 256 * 1024
/** Ranges in one question. */
export const digestsAtOnce = 32
const questionsAtOnce = 4
const extentSpanBytes = 2 ** 40
const zeros = Buffer.alloc(digestedBytes)

/** Extents of the file that are looked at in one turn of the loop. */
const extentsAtOnce = 32

/** SHA-256, in base64. */
export async function digestOf(bytes: Uint8Array, clock: Pick<Clock, 'turn'>): Promise<string> {
  return (await sha256(bytes, () => clock.turn())).toString('base64')
}

export interface VerificationParts {
  readonly disk: Disk
  readonly clock: Clock
  readonly pause: Pause
  /** Extents of the frozen disk that cover a beginning of the range. */
  extents(offset: number, lengthBytes: number, signal: AbortSignal): Promise<readonly Extent[]>
  /** The source's digests of runs, in order. */
  digests(runs: readonly Run[], signal: AbortSignal): Promise<readonly string[]>
  /** A range differs; it is missing again when this is called. */
  differs(run: Run): void
}

export class Verification {
  readonly #parts: VerificationParts
  readonly #signal: AbortSignal
  #differing = 0
  #comparedBytes = 0

  constructor(parts: VerificationParts, signal: AbortSignal) {
    this.#parts = parts
    this.#signal = signal
  }

  /** Bytes whose data was compared so far. */
  get comparedBytes(): number {
    return this.#comparedBytes
  }

  /** Resolves to the number of ranges that differed, and are missing now. */
  async run(): Promise<number> {
    const { disk, extents, pause } = this.#parts
    const questions = new Set<Promise<void>>()
    let batch: Run[] = []
    const ask = async () => {
      await pause.passed(this.#signal)
      const runs = batch
      batch = []
      while (questions.size >= questionsAtOnce) await Promise.race(questions)
      const question = this.#compare(runs).finally(() => questions.delete(question))
      question.catch(() => {}) // Awaited below.
      questions.add(question)
    }
    try {
      for (let at = 0; at < disk.sizeBytes; ) {
        for (const extent of await extents(at, Math.min(extentSpanBytes, disk.sizeBytes - at), this.#signal)) {
          at = extent.offset + extent.length
          if (!extent.data) await this.#checkZeros(extent)
          else {
            for (const run of this.#untouchedRuns(extent)) {
              if (batch.push(run) === digestsAtOnce) await ask()
            }
          }
        }
      }
      if (batch.length > 0) await ask()
      await Promise.all(questions)
    } finally {
      await Promise.allSettled(questions)
    }
    return this.#differing
  }

  /** Parts of the range that are here and that the guest did not write, none longer than a digest speaks of. */
  *#untouchedRuns(range: Run): Generator<Run> {
    const { disk } = this.#parts
    for (const span of disk.arriving.comparable(spanOf(range.offset, range.length))) {
      const end = Math.min(span.end * blockSizeBytes, disk.sizeBytes)
      for (let offset = span.first * blockSizeBytes; offset < end; offset += digestedBytes) {
        yield { offset, length: Math.min(digestedBytes, end - offset) }
      }
    }
  }

  async #compare(runs: readonly Run[]): Promise<void> {
    const digests = await this.#parts.digests(runs, this.#signal)
    for (const [index, run] of runs.entries())
      await this.#judge(run, async (bytes) => (await this.#digestOf(bytes)) === digests[index])
  }

  #digestOf(bytes: Uint8Array): Promise<string> {
    return digestOf(bytes, this.#parts.clock)
  }

  /** A hole of the source: a hole here, or zeros. */
  async #checkZeros(hole: Run): Promise<void> {
    const { disk, clock } = this.#parts
    const end = hole.offset + hole.length
    let looked = 0
    for (let at = hole.offset; at < end; ) {
      if (looked++ % extentsAtOnce === 0) await clock.turn()
      this.#signal.throwIfAborted()
      const [extent] = disk.arriving.extents(at, end - at, 1)
      const extentEnd = extent!.offset + extent!.length
      if (extent!.data) {
        const first = extent!.offset - (extent!.offset % blockSizeBytes)
        for (const run of this.#untouchedRuns({ offset: first, length: extentEnd - first })) {
          await this.#judge(run, async (bytes) => Buffer.compare(bytes, zeros.subarray(0, bytes.length)) === 0)
        }
      }
      at = extentEnd
    }
  }

  async #judge(run: Run, isSame: (bytes: Uint8Array) => Promise<boolean>): Promise<void> {
    const { disk, clock, digests, differs } = this.#parts
    await clock.turn()
    this.#signal.throwIfAborted()
    const bytes = withOwnMemory(Buffer.allocUnsafeSlow(run.length))
    await disk.arriving.read(run.offset, bytes)
    this.#comparedBytes += run.length
    const span = spanOf(run.offset, run.length)
    if (disk.arriving.isUntouched(span)) {
      const same = await isSame(bytes)
      giveBack(bytes)
      if (same) return
      this.#signal.throwIfAborted()
      // Untouched until now, so that it was when its bytes were read.
      if (disk.arriving.isUntouched(span)) {
        if (!disk.arriving.forget(span)) return
        this.#differing++
        differs(run)
        return
      }
    }
    // The guest wrote some of it meanwhile. The rest is compared block by block.
    for (const rest of this.#untouchedRuns(run)) {
      for (const block of blocksOf(rest)) {
        const [digest] = await digests([block], this.#signal)
        await this.#judgeBlock(block, digest)
      }
    }
  }

  async #judgeBlock(block: Run, digest: string | undefined): Promise<void> {
    const { disk, differs } = this.#parts
    const bytes = Buffer.allocUnsafeSlow(block.length)
    await disk.arriving.read(block.offset, bytes)
    const isSame = (await this.#digestOf(bytes)) === digest
    this.#signal.throwIfAborted()
    const span: Span = spanOf(block.offset, block.length)
    if (!disk.arriving.isUntouched(span) || isSame || !disk.arriving.forget(span)) return
    this.#differing++
    differs(block)
  }
}

function* blocksOf(run: Run): Generator<Run> {
  const end = run.offset + run.length
  for (let offset = run.offset; offset < end; offset += blockSizeBytes) {
    yield { offset, length: Math.min(blockSizeBytes, end - offset) }
  }
}
