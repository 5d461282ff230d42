// A migration that the operator ended at the destination (`cancel --force`) while the source was away: everything is here,
// and the disks are free. What is left is to tell the source, whenever it comes back, so that it is released.

import type { DeedEntry } from '../../deed/entries.ts'
import { LinkError, PeerRefusal } from '../../link/channel.ts'
import type { MigrationRecord } from '../../store/records.ts'
import { movedOnCodes } from '../codes.ts'
import type { SourceDesk } from '../counterpart.ts'
import type { CourseServices } from '../course.ts'
import { changed } from '../move.ts'
import { retryDelayMs } from '../retries.ts'
import { signComplete } from '../signed-words.ts'
import { type Supersession, supersededNote, voidWord } from '../supersession.ts'

export interface AfterwordParts extends Pick<CourseServices, 'clock' | 'records' | 'log' | 'key'> {
  readonly record: MigrationRecord
  /** The source of that migration. */
  readonly source: SourceDesk
  readonly signal: AbortSignal
  /** What the source's deed of this disk means here; undefined: nothing. @throws while that cannot be said */
  proof(disk: string): Promise<Supersession | undefined>
  /** The source has let the disks go, by these entries of their deeds. */
  released(entries: readonly DeedEntry[]): Promise<void>
  /** The source took this disk back meanwhile. @throws while that cannot be recorded */
  superseded(disk: string, by: Supersession): Promise<void>
}

/** Resolves to the record once the source has heard it, or has said that it took disks back. Rejects only when `signal` aborts. */
export async function tellSource(parts: AfterwordParts): Promise<MigrationRecord> {
  const { clock, records, log, signal } = parts
  for (let attempt = 1; ; attempt++) {
    try {
      const by = await told(parts)
      const record = { ...superseded(parts.record, by), sourceTold: true }
      await records.commit([{ put: 'migration', record }])
      return record
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof LinkError))
        log('warn', { migration: parts.record.id, error: String(error) }, 'the source could not be told yet')
      await clock.sleep(retryDelayMs(attempt), signal)
    }
  }
}

/**
 * It was over here, and what the source says was void there already, or became so before the source had heard of it. The move
 * has failed if that is so of all its disks.
 */
function superseded(record: MigrationRecord, by: ReadonlyMap<string, Supersession>): MigrationRecord {
  const inMove = record.disks.filter(({ hasLeft }) => !hasLeft)
  const voids = inMove.flatMap(({ id, name }) => {
    const said = by.get(id)
    return said ? [{ id, name, said }] : []
  })
  if (voids.length === 0) return record
  const isOver = voids.length === inMove.length
  const disks = voids.map(({ id, said: { owner } }) => [id, isOver ? { owner } : { owner, hasLeft: true }])
  const sentences = voids.map(({ name, said }) =>
    record.disks.length > 1 ? `${name}: ${supersededNote(said)}` : supersededNote(said),
  )
  const ended = isOver ? { state: 'failed' } : {}
  return changed(record, { ...ended, note: sentences.join('; '), disks: Object.fromEntries(disks) })
}

/** Resolves to what the source says of later generations, by the ids of the disks. */
async function told(parts: AfterwordParts): Promise<ReadonlyMap<string, Supersession>> {
  const { record, source, signal } = parts
  const { copyingMs } = record
  const inMove = record.disks.filter(({ hasLeft }) => !hasLeft)
  const voids = new Map<string, Supersession>()
  try {
    const disks = inMove.map(({ id: disk, generation, counters, verified, differed }) => {
      return { disk, generation, ...counters, verified, differed }
    })
    const release = await source.complete({ disks, copyingMs, ...signComplete(parts.key, record) }, signal)
    if (release.answer === 'released') await parts.released(release.released)
  } catch (error) {
    for (const { id } of inMove) {
      const by = voidWord(error, id) && (await parts.proof(id))
      if (!by) continue
      await parts.superseded(id, by)
      voids.set(id, by)
    }
    // The source has moved on since, or knows nothing of it any more.
    const isHeard = error instanceof PeerRefusal && movedOnCodes.includes(error.code)
    if (voids.size === 0 && !isHeard) throw error
  }
  return voids
}
