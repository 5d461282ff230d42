// A range that the source's disk cannot read. It stops nothing but itself: the source names it in its refusal, and the
// destination goes on behind it, reports it, and tries again now and then.

import { z } from 'zod'
import type { Run } from '../block/units.ts'
import { UnreadableRange } from '../disk/unreadable-range.ts'
import { PeerRefusal } from '../link/channel.ts'

const unreadableCode = 'unreadable'
/** Ranges that a report names. */
export const namedRanges = 32
const rangesInSentence = 4

const facts = z.object({ offset: z.number().int().nonnegative(), length: z.number().int().positive() })

/** What the disk could not read, as the destination is told it; any other error as it is. */
export function unreadableToPeer(error: unknown): unknown {
  if (!(error instanceof UnreadableRange)) return error
  const { diskName, run, why } = error
  const message = `the source cannot read ${rangeText(run)} of ${diskName} (${why})`
  return new PeerRefusal(unreadableCode, message, { offset: run.offset, length: run.length })
}

/** The range that the source said it cannot read, if it said that. */
export function unreadableIn(error: unknown): Run | undefined {
  if (!(error instanceof PeerRefusal) || error.code !== unreadableCode) return undefined
  return facts.safeParse(error.facts).data
}

function rangeText({ offset, length }: Run): string {
  return `${sizeText(length)} at ${sizeText(offset)}`
}

/** Exact, with its unit: '8 KiB', '4608 B'. */
function sizeText(bytes: number): string {
  if (bytes > 0 && bytes % 2 ** 20 === 0) return `${bytes / 2 ** 20} MiB`
  return bytes > 0 && bytes % 1024 === 0 ? `${bytes / 1024} KiB` : `${bytes} B`
}

/** '4 KiB at 8 KiB, 512 B at 64 KiB and 3 more ranges' */
export function rangesText(runs: readonly Run[]): string {
  const named = runs.slice(0, rangesInSentence).map(rangeText).join(', ')
  const more = runs.length - rangesInSentence
  return more > 0 ? `${named} and ${more} more range(s)` : named
}

/** Ranges in order, those that touch made one. */
export function merged(runs: readonly Run[]): Run[] {
  const result: Run[] = []
  for (const run of [...runs].sort((a, b) => a.offset - b.offset)) {
    const last = result.at(-1)
    if (!last || last.offset + last.length < run.offset) result.push(run)
    else {
      const end = Math.max(last.offset + last.length, run.offset + run.length)
      result[result.length - 1] = { offset: last.offset, length: end - last.offset }
    }
  }
  return result
}
