// What a destination does when the source has no right to serve the disk any more: it departed, and its grant is on the way
// here, or was lost; or the migration was cancelled there.

import { GuestError } from '../../guest/export.ts'
import type { SourceStanding } from '../counterpart.ts'

/** While the right is passing on, whoever waits for it looks again after this. */
export const passingPauseMs = 20

export interface PassedRightParts {
  readonly diskName: string
  isIncoming(): boolean
  /** An acquire is under way. */
  isAcquiring(): boolean
  inquire(): Promise<SourceStanding>
  /** The source says that it has departed: the grant is asked for again. */
  hasDeparted(): void
  /** The source says that the migration is cancelled. */
  isCancelled(): Promise<void>
}

/** Has the disk move on as the source says. @throws GuestError when it says that the disk was taken already */
export async function followRight(parts: PassedRightParts): Promise<void> {
  const { isAcquiring, inquire, isCancelled, isIncoming, hasDeparted, diskName } = parts
  if (isAcquiring()) return // A grant whose answer was lost is found by asking again.
  const { state } = await inquire()
  if (state === 'cancelled') await isCancelled()
  else if (state === 'departed' && isIncoming()) hasDeparted()
  else if (state === 'taken' || state === 'released') {
    throw new GuestError(
      'io',
      `the source says that ${diskName} was taken already: this site was restored from an old copy`,
    )
  }
}
