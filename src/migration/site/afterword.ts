// A migration that the operator ended at the destination (`cancel --force`) while the source was away: everything is here,
// and the disk is free. What is left is to tell the source, whenever it comes back, so that it is released.

import { LinkError, PeerRefusal } from '../../link/channel.ts'
import type { MigrationRecord } from '../../store/records.ts'
import { movedOnCodes } from '../codes.ts'
import type { SourceDesk } from '../counterpart.ts'
import type { CourseServices } from '../course.ts'
import { onlyDisk } from '../move.ts'
import { retryDelayMs } from '../retries.ts'
import { type Supersession, supersessionIn } from '../supersession.ts'

export interface AfterwordParts extends Pick<CourseServices, 'clock' | 'records' | 'log'> {
  readonly record: MigrationRecord
  /** The source of that migration. */
  readonly source: SourceDesk
  readonly signal: AbortSignal
  /** The source took the disk back meanwhile. @throws while that cannot be recorded */
  superseded(supersession: Supersession): Promise<void>
}

/** Resolves to the record once the source has heard it. Rejects only when `signal` aborts. */
export async function tellSource(parts: AfterwordParts): Promise<MigrationRecord> {
  const { clock, records, log, signal } = parts
  for (let attempt = 1; ; attempt++) {
    try {
      await hear(parts)
      const record = { ...parts.record, sourceTold: true }
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

async function hear({ record, source, signal, superseded }: AfterwordParts): Promise<void> {
  const { copyingMs } = record
  const { id: disk, generation, counters, verified, differed } = onlyDisk(record)
  try {
    await source.complete({ disks: [{ disk, generation, ...counters, verified, differed }], copyingMs }, signal)
  } catch (error) {
    const supersession = supersessionIn(error, generation)
    if (supersession) return superseded(supersession)
    // The source has moved on since, or knows nothing of it any more.
    if (!(error instanceof PeerRefusal) || !movedOnCodes.includes(error.code)) throw error
  }
}
