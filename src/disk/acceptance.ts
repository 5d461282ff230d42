// An operator accepts what a failed sync, or a loss of power, left of a disk: whether that may be now, and what it is told if
// not.
//
// What always holds: nobody is attached when a failed sync is accepted, and no request is in flight: a client that was told
// of the failure would take the success of its next flush for its old writes. After a loss of power clients were told of
// nothing, and they may stay.

import type { Disk } from './disk.ts'
import { Refusal } from './refusal.ts'

/** What an operator does about a disk that cannot be moved because something is wrong with it. */
export function nextOfTroubled(disk: Disk): string {
  if (disk.lostPower) return `Check the disk, and say vmstore disk accept ${disk.name}; then move it.`
  return disk.hasFailedSync
    ? `Mend the storage, check the disk, and say vmstore disk accept ${disk.name}; then move it.`
    : 'Mend the storage and restart the daemon first.'
}

/** Has a disk served as before, whatever happened to it. `isConfirmed`: the operator knows what may be lost. @throws Refusal */
export async function accept(disk: Disk, isConfirmed: boolean, signal: AbortSignal): Promise<void> {
  const refusal = disk.lostPower ? unlessConfirmed(disk, isConfirmed, lossWords) : refusalToAccept(disk, isConfirmed)
  if (refusal) throw refusal
  try {
    if (disk.hasFailedSync) await disk.acceptFailedSync(signal)
    await disk.acceptPowerLoss()
  } catch (error) {
    if (error instanceof Refusal) throw error
    throw notAccepted(disk, error)
  }
}

function refusalToAccept(disk: Disk, isConfirmed: boolean): Refusal | undefined {
  const refusal = (code: string, message: string, next?: string) =>
    new Refusal(code, message, { disk: disk.name, safe: 'Nothing was changed.', ...(next && { next }) })
  const { name, sessions, gate } = disk
  if (!disk.hasFailedSync) {
    const what = 'no failed sync or loss of power'
    return refusal('nothing-to-accept', `${what} of ${name} waits to be accepted: it is ${disk.state} here`)
  }
  if (disk.readOnly) {
    return refusal(
      'read-only',
      `${name} is served for reading only, and accepting it writes to it`,
      'Start vmstore without --read-only.',
    )
  }
  if (sessions.count > 0) {
    const message = `${name} has ${sessions.count} client(s) attached, whose next flush would be told of success for writes that may be lost`
    return refusal('disk-in-use', message, 'Detach them first, and check the disk before its guest goes on.')
  }
  if (gate.frozen || gate.inFlight > 0) {
    return refusal('disk-busy', `${name} is busy: requests of its guests are not over`, 'Try again in a moment.')
  }
  return unlessConfirmed(disk, isConfirmed, failedSyncWords)
}

const failedSyncWords = 'Accepting it keeps what can be read now, written anew and synced, and gives up what was lost.'
const lossWords = 'Accepting it changes no byte: what was lost stays lost.'

function unlessConfirmed(disk: Disk, isConfirmed: boolean, words: string): Refusal | undefined {
  if (isConfirmed) return undefined
  return new Refusal('not-confirmed', `${disk.name}: ${disk.trouble} ${words}`, {
    disk: disk.name,
    safe: 'Nothing was changed.',
    next: 'Check the disk (vmstore disk export makes a copy to look at). Then say so with --yes.',
  })
}

function notAccepted(disk: Disk, cause: unknown): Refusal {
  const reason = (cause as Error).message
  const message = disk.lostPower
    ? `${disk.name} is not accepted: that it is could not be recorded (${reason})`
    : `${disk.name} is not accepted: it could not be written anew, synced, and recorded as sound (${reason})`
  return new Refusal('not-accepted', message, {
    disk: disk.name,
    safe: disk.lostPower ? 'It is as it was.' : 'What can be read of it is as it was; it takes no writes.',
    next: 'Mend the storage, and say it again.',
    cause,
  })
}
