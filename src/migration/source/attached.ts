// Who is attached to the disks of a move, and whether its writers are quiet: it is quiet when each of its disks is (sessions.ts),
// and a reason names the disk, where there are several.

import type { Disk } from '../../disk/disk.ts'
import type { AttachedSessions } from '../../disk/sessions.ts'

type Watched = Pick<Disk, 'name' | 'sessions'>

/** A disk, and why it is not quiet: a sentence's end. */
export interface Attached {
  readonly disk: Watched
  readonly why: string
}

/** undefined: every writer of every disk is quiet. Else a sentence's end that says who is not. */
export function busyReason(disks: readonly Watched[]): string | undefined {
  return reasonOf(disks, (sessions) => sessions.busyReason())
}

/** Why it will not be quiet by itself. */
export function brokenReason(disks: readonly Watched[]): string | undefined {
  return reasonOf(disks, (sessions) => sessions.brokenReason())
}

/** Who is attached to one of the disks and not quiet. */
export function atWork(disks: readonly Watched[]): Attached | undefined {
  for (const disk of disks) {
    const why = disk.sessions.attachedReason()
    if (why !== undefined) return { disk, why }
  }
  return undefined
}

export function attachedReason(disks: readonly Watched[]): string | undefined {
  return reasonOf(disks, (sessions) => sessions.attachedReason())
}

/** Each client that is attached and not quiet, once. */
export function attachedWriters(disks: readonly Watched[]): string[] {
  return [...new Set(disks.flatMap(({ sessions }) => sessions.attachedWriters()))]
}

export function sessionCount(disks: readonly Watched[]): number {
  return disks.reduce((sum, { sessions }) => sum + sessions.count, 0)
}

/** Those of every disk that was written have said goodbye, and nobody is attached to any. */
export function writersAreGone(disks: readonly Watched[]): boolean {
  const isOver = ({ sessions }: Watched) => sessions.writersAreGone || sessions.isUnwritten
  return disks.every(isOver) && disks.some(({ sessions }) => sessions.writersAreGone)
}

function reasonOf(
  disks: readonly Watched[],
  of: (sessions: AttachedSessions) => string | undefined,
): string | undefined {
  for (const { name, sessions } of disks) {
    const why = of(sessions)
    if (why !== undefined) return disks.length > 1 ? `${name}: ${why}` : why
  }
  return undefined
}
