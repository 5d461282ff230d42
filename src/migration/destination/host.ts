// What the phases of a destination's course (phases/) have of the course: its record and disk, the source, and how they put on
// record and tell what becomes of the move. A phase knows no other phase.

import type { MovedDisk } from '../../store/records.ts'
import type { DiskAt, SourceDesk } from '../counterpart.ts'
import type { Course, CourseEvent, CourseServices, Plans } from '../course.ts'
import type { MoveChanges } from '../move.ts'
import type { RemoteBlocksParts } from './remote-blocks.ts'

const commitRetryMs = 1000

export interface DestinationHost {
  readonly course: Course
  readonly services: CourseServices
  /** The source of this migration. Whatever it refuses is heeded. */
  readonly source: SourceDesk
  /** Ends when this site stops. */
  readonly stopping: AbortSignal
  /** Ends when the disk is superseded, or the operator ends the migration without the source. */
  readonly leaving: AbortSignal
  /** Ends with either of both. */
  readonly working: AbortSignal
  update(changes: MoveChanges, plans?: Plans): Promise<void>
  ending(
    state: 'done' | 'cancelled',
    ownerOf: string | ((disk: MovedDisk) => string),
    facts?: (disk: MovedDisk) => Partial<MovedDisk>,
  ): MoveChanges
  note(sentence: string | null): void
  tell(event: CourseEvent): void
  tellCutOff(): void
  now(): string
  /** A fetch was refused: the source may have said that the disk is superseded. */
  heed(error: unknown): void
}

/** The disk under the generation that the migration leads to; frozen at its source once it was granted. */
export function frozenDisk({ course }: DestinationHost): DiskAt {
  return { disk: course.moved(course.disk).id, generation: course.moved(course.disk).generation }
}

/** The source's blocks of the disk, under a generation. */
export function remoteParts(host: DestinationHost, disk: DiskAt): RemoteBlocksParts {
  return {
    source: host.source,
    clock: host.services.clock,
    disk,
    stallTimeoutMs: host.course.terms.stallTimeoutMs,
    refused: (error) => {
      host.heed(error)
      throw error
    },
  }
}

/**
 * What has to be on record is tried until it is, or `signal` aborts: the file system may be full for a while. A failed sync of
 * the disk is final, where the work needs one.
 */
export async function recorded(
  { course, services, note }: DestinationHost,
  what: string,
  work: () => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    try {
      await work()
      return
    } catch (error) {
      signal.throwIfAborted()
      if (course.disk.isFinal(error)) throw error
      note(`${course.disk.name}: it cannot be recorded ${what} (${(error as Error).message}); it is tried again`)
      await services.clock.sleep(commitRetryMs, signal)
    }
  }
}
