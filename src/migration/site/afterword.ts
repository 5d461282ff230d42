// A migration that the operator ended at the destination (`cancel --force`) while the source was away: everything is here,
// and the disk is free. What is left is to tell the source, whenever it comes back, so that it is released.

import { LinkError, PeerRefusal } from '../../link/channel.ts'
import type { MigrationRecord } from '../../store/records.ts'
import { movedOnCodes } from '../codes.ts'
import type { SourceDesk } from '../counterpart.ts'
import type { CourseServices } from '../course.ts'
import { changed, onlyDisk } from '../move.ts'
import { retryDelayMs } from '../retries.ts'
import { type Supersession, supersededNote, supersessionIn } from '../supersession.ts'

export interface AfterwordParts extends Pick<CourseServices, 'clock' | 'records' | 'log'> {
  readonly record: MigrationRecord
  /** The source of that migration. */
  readonly source: SourceDesk
  readonly signal: AbortSignal
  /** The source took the disk back meanwhile. @throws while that cannot be recorded */
  superseded(supersession: Supersession): Promise<void>
}

/** Resolves to the record once the source has heard it, or has said that it took the disk back. Rejects only when `signal` aborts. */
export async function tellSource(parts: AfterwordParts): Promise<MigrationRecord> {
  const { clock, records, log, signal } = parts
  for (let attempt = 1; ; attempt++) {
    try {
      const by = await told(parts)
      const record = by ? superseded(parts.record, by) : { ...parts.record, sourceTold: true }
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

/** It was over here, and was void there already, or became so before the source had heard of it. */
function superseded(record: MigrationRecord, by: Supersession): MigrationRecord {
  return changed(record, {
    state: 'failed',
    sourceTold: true,
    note: supersededNote(by),
    disks: { [onlyDisk(record).id]: { owner: by.owner } },
  })
}

/** Resolves to what the source says of a later generation, if it does. */
async function told(parts: AfterwordParts): Promise<Supersession | undefined> {
  const { record, source, signal } = parts
  const { copyingMs } = record
  const { id: disk, generation, counters, verified, differed } = onlyDisk(record)
  try {
    await source.complete({ disks: [{ disk, generation, ...counters, verified, differed }], copyingMs }, signal)
  } catch (error) {
    const by = supersessionIn(error, generation)
    if (by) {
      await parts.superseded(by)
      return by
    }
    // The source has moved on since, or knows nothing of it any more.
    if (!(error instanceof PeerRefusal) || !movedOnCodes.includes(error.code)) throw error
  }
  return undefined
}
