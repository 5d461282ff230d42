// What the phases of a destination's course (phases/) have of the course: its record and disks, the source, and how they put on
// record and tell what becomes of the move. A phase knows no other phase.

import type { Disk } from '../../disk/disk.ts'
import type { MovedDisk } from '../../store/records.ts'
import type { SourceDesk } from '../counterpart.ts'
import type { Course, CourseEvent, CourseServices, Plans } from '../course.ts'
import { diskNames, type MoveChanges } from '../move.ts'

const commitRetryMs = 1000

export interface DestinationHost {
  readonly course: Course
  readonly services: CourseServices
  /** The source of this migration. Whatever it refuses is heeded. */
  readonly source: SourceDesk
  /** Ends when this site stops. */
  readonly stopping: AbortSignal
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
  /** A fetch was refused: the source may have said that a disk is superseded. */
  heed(error: unknown): Promise<void>
}

/**
 * What has to be on record is tried until it is, or `signal` aborts: the file system may be full for a while. A failed sync of
 * one of `disks` is final, where the work needs one.
 */
export async function recorded(
  { course, services, note }: Pick<DestinationHost, 'course' | 'services' | 'note'>,
  disks: readonly Disk[],
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
      if (disks.some((disk) => disk.isFinal(error))) throw error
      note(
        `${diskNames(course.record)}: it cannot be recorded ${what} (${(error as Error).message}); it is tried again`,
      )
      await services.clock.sleep(commitRetryMs, signal)
    }
  }
}
