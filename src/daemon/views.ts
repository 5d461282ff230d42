// What operators see of disks and migrations: plain JSON, made from the live objects and the records.

import { blockSizeBytes } from '../block/block-map.ts'
import type { DiskView, LinkView, MigrationState, MigrationView, RangeView } from '../control/types.ts'
import type { Disk } from '../disk/disk.ts'
import { unknownOwner } from '../disk/states.ts'
import type { LinkFacts } from '../link/peers/link-watch.ts'
import type { Course } from '../migration/course.ts'
import type { WaitingGuests } from '../migration/held-writes.ts'
import { onlyDisk } from '../migration/move.ts'
import { termsOf } from '../migration/terms.ts'
import { namedRanges } from '../migration/unreadable.ts'
import { nbdErrorCodes } from '../nbd/server/guest-errors.ts'
import type { MigrationCounters, MigrationRecord } from '../store/records.ts'

/** What this site calls other sites. */
export interface Naming {
  /** The id of this site. */
  readonly ownSite: string
  /** `this site`, a peer's name, or the id itself. */
  siteName(siteId: string): string
  peerName(peerId: string): string
  isConnected(peerId: string): boolean
  link(peerId: string): LinkFacts | undefined
}

export function linkView(facts: LinkFacts | undefined): LinkView {
  if (!facts || facts.state === 'untried') return { state: 'untried', since: null, why: null }
  return { state: facts.state, since: new Date(facts.sinceMs).toISOString(), why: facts.why ?? null }
}

/** `allocatedBytes`: of its file; undefined: there is none any more. */
export function diskView(
  disk: Disk,
  allocatedBytes: number | undefined,
  course: Course | undefined,
  naming: Naming,
): DiskView {
  const { record } = disk
  const owner = course?.owner ?? record.owner
  return {
    name: record.name,
    id: record.id,
    size: record.sizeBytes,
    state: stateOf(disk),
    generation: record.generation,
    owner,
    ownerName: owner === unknownOwner ? unknownOwner : naming.siteName(owner),
    blockSize: blockSizeBytes,
    present: allocatedBytes === undefined ? { blocks: 0, bytes: 0 } : disk.present,
    exposed: course ? exposedOf(course) : 0,
    allocated: allocatedBytes ?? 0,
    path: record.path,
    sessions: disk.sessions.count,
    writes: disk.sessions.writes,
    migration: record.migrationId,
    trouble: disk.trouble ?? null,
    guestErrors: guestErrorsOf(disk),
  }
}

/** By the names that NBD has for them, which are those of the system. */
function guestErrorsOf(disk: Disk): DiskView['guestErrors'] {
  return Object.fromEntries([...disk.guestErrors.counts].map(([code, count]) => [nbdErrorCodes[code], count]))
}

export function stateOf(disk: Disk): string {
  return disk.gate.frozen ? 'freezing' : disk.record.state
}

/** What would be lost with the source: nothing before switchover, when the source owns. */
function exposedOf({ disk, missingBytes }: Course): number {
  return disk.state === 'arriving' || disk.state === 'departed' ? missingBytes : 0
}

export function courseView(course: Course, naming: Naming): MigrationView {
  const { rate, secondsLeft } = course.pace
  return view(course.record, naming, {
    guests: course.guests,
    copyingMs: course.copyingMs,
    state: course.liveState as MigrationState,
    diskState: stateOf(course.disk),
    owner: course.owner,
    counters: course.counters,
    missing: course.missingBytes,
    exposed: exposedOf(course),
    unreadable: course.figures(course.disk).unreadable.slice(0, namedRanges),
    rate,
    secondsLeft,
    note: course.note,
  })
}

/** A migration that is over, or is stopped until the next start. `diskState`: of its disk at this site; null: it is not here. */
export function recordView(record: MigrationRecord, naming: Naming, diskState: string | null): MigrationView {
  const isDone = record.state === 'done'
  const { sizeBytes, owner, counters } = onlyDisk(record)
  return view(record, naming, {
    guests: { held: null, refused: record.refusedWrites },
    copyingMs: record.copyingMs,
    state: record.state as MigrationState,
    diskState,
    owner,
    counters,
    missing: isDone ? 0 : sizeBytes,
    exposed: 0,
    unreadable: [],
    rate: 0,
    secondsLeft: null,
    note: record.note,
  })
}

interface LiveFacts {
  readonly guests: WaitingGuests
  readonly copyingMs: number
  readonly state: MigrationState
  readonly diskState: string | null
  readonly owner: string
  readonly counters: MigrationCounters
  readonly missing: number
  readonly exposed: number
  readonly unreadable: readonly RangeView[]
  readonly rate: number
  readonly secondsLeft: number | null
  readonly note: string | null
}

function view(record: MigrationRecord, naming: Naming, facts: LiveFacts): MigrationView {
  const now = Date.now()
  const at = (time: string | null) => (time === null ? now : Date.parse(time))
  const disk = onlyDisk(record)
  const { mode, switchover } = termsOf(record)
  const { owner } = facts
  const ownerName = owner === unknownOwner ? unknownOwner : naming.siteName(owner)
  // What is said of a move of one disk is said of that disk.
  const shared = {
    generation: disk.generation,
    owner,
    ownerName,
    ownerSide: sideOf(owner, record, naming),
    bytes: { disk: disk.sizeBytes, ...facts.counters, missing: facts.missing, exposed: facts.exposed },
    verified: disk.verified,
    differed: disk.differed,
  }
  return {
    id: record.id,
    disk: disk.name,
    disks: [{ id: disk.id, name: disk.name, state: facts.diskState, ...shared }],
    role: record.role,
    peer: naming.peerName(record.peerId),
    state: facts.state,
    mode,
    switchover,
    transport: record.transport,
    ...shared,
    seconds: {
      total: (at(record.endedAt) - Date.parse(record.startedAt)) / 1000,
      precopy: 0,
      switchover: record.switchoverMs / 1000,
      postcopy: record.switchedAt === null ? 0 : (at(record.endedAt) - at(record.switchedAt)) / 1000,
      copying: facts.copyingMs / 1000,
    },
    rate: facts.rate,
    secondsLeft: facts.secondsLeft,
    connected: naming.isConnected(record.peerId),
    link: linkView(naming.link(record.peerId)),
    held: facts.guests.held,
    refusedWrites: facts.guests.refused,
    cutOff: record.cutOff,
    unreadable: facts.unreadable,
    paused: record.paused,
    note: facts.note,
    startedAt: record.startedAt,
  }
}

function sideOf(owner: string, { role, peerSite }: MigrationRecord, naming: Naming): MigrationView['ownerSide'] {
  if (owner === unknownOwner) return unknownOwner
  if (owner === naming.ownSite) return role
  if (owner !== peerSite) return 'other'
  return role === 'source' ? 'destination' : 'source'
}
