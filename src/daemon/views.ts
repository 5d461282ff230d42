// What operators see of disks and migrations: plain JSON, made from the live objects and the records.

import { blockSizeBytes } from '../block/block-map.ts'
import type { DiskView, LinkView, MigrationState, MigrationView, MovedDiskView, RangeView } from '../control/types.ts'
import type { Disk } from '../disk/disk.ts'
import { unknownOwner } from '../disk/states.ts'
import type { LinkFacts } from '../link/peers/link-watch.ts'
import type { Ahead } from '../migration/ahead.ts'
import type { Course } from '../migration/course.ts'
import type { WaitingGuests } from '../migration/held-writes.ts'
import { diskNames, summed } from '../migration/move.ts'
import { copiesAhead, termsOf } from '../migration/terms.ts'
import { namedRanges } from '../migration/unreadable.ts'
import { nbdErrorCodes } from '../nbd/server/guest-errors.ts'
import type { MigrationCounters, MigrationRecord, MovedDisk } from '../store/records.ts'

/** What this site calls other sites, and how its disks stand. */
export interface Naming {
  /** The id of this site. */
  readonly ownSite: string
  /** `this site`, a peer's name, or the id itself. */
  siteName(siteId: string): string
  peerName(peerId: string): string
  /** Of this site's key, and of those that are pinned. */
  keyName(fingerprint: string): string | undefined
  isConnected(peerId: string): boolean
  link(peerId: string): LinkFacts | undefined
  /** null: there is no such disk here. */
  diskState(diskId: string): string | null
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
  const owner = course?.ownerOf(disk) ?? record.owner
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
    exposed: course ? exposedOf(disk, course) : 0,
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
function exposedOf(disk: Disk, course: Course): number {
  return disk.state === 'arriving' || disk.state === 'departed' ? course.figures(disk).missingBytes : 0
}

export function courseView(course: Course, naming: Naming): MigrationView {
  const { rate, secondsLeft } = course.pace
  return view(course.record, naming, {
    guests: course.guests,
    copyingMs: course.copyingMs,
    state: course.liveState as MigrationState,
    owner: course.owner,
    disks: course.record.disks.map((moved) => {
      const disk = course.disks.find(({ id }) => id === moved.id)
      if (!disk || moved.hasLeft) return recordedFacts(moved, naming, moved.sizeBytes)
      return {
        moved,
        state: stateOf(disk),
        owner: course.ownerOf(disk),
        counters: course.countersOf(disk),
        missing: course.figures(disk).missingBytes,
        exposed: exposedOf(disk, course),
        unreadable: course.figures(disk).unreadable.slice(0, namedRanges),
        picture: course.figures(disk).picture,
      }
    }),
    rate,
    secondsLeft,
    note: course.note,
    ahead: course.ahead,
  })
}

/** A migration that is over, or is stopped until the next start. */
export function recordView(record: MigrationRecord, naming: Naming): MigrationView {
  const isDone = record.state === 'done'
  return view(record, naming, {
    guests: { held: null, refused: record.refusedWrites },
    copyingMs: record.copyingMs,
    state: record.state as MigrationState,
    owner: ofThoseInIt(record.disks).owner,
    disks: record.disks.map((moved) => recordedFacts(moved, naming, isDone && !moved.hasLeft ? 0 : moved.sizeBytes)),
    rate: 0,
    secondsLeft: null,
    note: record.note,
    ahead: null,
  })
}

interface LiveFacts {
  readonly guests: WaitingGuests
  readonly copyingMs: number
  readonly state: MigrationState
  readonly owner: string
  /** In the move's order. */
  readonly disks: readonly DiskFacts[]
  readonly rate: number
  readonly secondsLeft: number | null
  readonly note: string | null
  readonly ahead: Ahead | null
}

interface DiskFacts {
  readonly moved: MovedDisk
  /** At this site. */
  readonly state: string | null
  readonly owner: string
  readonly counters: MigrationCounters
  readonly missing: number
  readonly exposed: number
  readonly unreadable: readonly RangeView[]
  readonly picture: string | null
}

/** Of a disk that is not in a move that runs. */
function recordedFacts(moved: MovedDisk, naming: Naming, missing: number): DiskFacts {
  const { id, owner, counters } = moved
  return { moved, state: naming.diskState(id), owner, counters, missing, exposed: 0, unreadable: [], picture: null }
}

/** The first of those that have not left the move, which pass together; when all have left it, the first. */
function ofThoseInIt(disks: readonly MovedDisk[]): MovedDisk {
  return disks.find(({ hasLeft }) => !hasLeft) ?? disks[0]!
}

function diskFactsView({ moved, ...facts }: DiskFacts, record: MigrationRecord, naming: Naming): MovedDiskView {
  return {
    id: moved.id,
    name: moved.name,
    state: facts.state,
    hasLeft: moved.hasLeft,
    generation: moved.generation,
    ...ownerView(facts.owner, record, naming),
    bytes: { disk: moved.sizeBytes, spared: 0, ...facts.counters, missing: facts.missing, exposed: facts.exposed },
    verified: moved.verified,
    unreadable: facts.unreadable,
    differed: moved.differed,
    picture: facts.picture,
  }
}

/** Of all disks together. */
function sumOf(disks: readonly MovedDiskView[]): MigrationView['bytes'] {
  const sum = (figure: 'disk' | 'missing' | 'exposed') => disks.reduce((all, { bytes }) => all + bytes[figure], 0)
  const counters = summed(disks.map(({ bytes }) => bytes))
  return { disk: sum('disk'), ...counters, missing: sum('missing'), exposed: sum('exposed') }
}

function ownerView(owner: string, record: MigrationRecord, naming: Naming) {
  const ownerName = owner === unknownOwner ? unknownOwner : naming.siteName(owner)
  return { owner, ownerName, ownerSide: sideOf(owner, record, naming) }
}

function view(record: MigrationRecord, naming: Naming, facts: LiveFacts): MigrationView {
  const now = Date.now()
  const at = (time: string | null) => (time === null ? now : Date.parse(time))
  const { mode, switchover, maxRate } = termsOf(record)
  const disks = facts.disks.map((disk) => diskFactsView(disk, record, naming))
  const inIt = disks.filter(({ hasLeft }) => !hasLeft)
  const counted = inIt.length > 0 ? inIt : disks
  return {
    id: record.id,
    disk: diskNames(record),
    disks,
    role: record.role,
    peer: naming.peerName(record.peerId),
    state: facts.state,
    mode,
    switchover,
    maxRate,
    transport: record.transport,
    generation: ofThoseInIt(record.disks).generation,
    ...ownerView(facts.owner, record, naming),
    bytes: sumOf(disks),
    verified: counted.every(({ verified }) => verified),
    differed: disks.flatMap(({ differed }) => differed),
    seconds: {
      total: (at(record.endedAt) - Date.parse(record.startedAt)) / 1000,
      precopy: precopySeconds(record, at),
      switchover: record.switchoverMs / 1000,
      postcopy: record.switchedAt === null ? 0 : (at(record.endedAt) - at(record.switchedAt)) / 1000,
      copying: facts.copyingMs / 1000,
    },
    ahead: facts.ahead && { passes: facts.ahead.passes, leftBytes: facts.ahead.leftBytes, readyAt: record.readyAt },
    rate: facts.rate,
    secondsLeft: facts.secondsLeft,
    connected: naming.isConnected(record.peerId),
    link: linkView(naming.link(record.peerId)),
    held: facts.guests.held,
    refusedWrites: facts.guests.refused,
    cutOff: record.cutOff,
    unreadable: disks.flatMap(({ unreadable }) => unreadable).slice(0, namedRanges),
    paused: record.paused,
    note: facts.note,
    startedAt: record.startedAt,
    endedAt: record.endedAt,
  }
}

/** From the beginning until all was copied ahead, or until switchover came before that. */
function precopySeconds(record: MigrationRecord, at: (time: string | null) => number): number {
  if (!copiesAhead(termsOf(record))) return 0
  const until = record.readyAt ?? record.switchedAt ?? record.endedAt
  return Math.max(0, at(until) - Date.parse(record.startedAt)) / 1000
}

function sideOf(owner: string, { role, peerSite }: MigrationRecord, naming: Naming): MigrationView['ownerSide'] {
  if (owner === unknownOwner) return unknownOwner
  if (owner === naming.ownSite) return role
  if (owner !== peerSite) return 'other'
  return role === 'source' ? 'destination' : 'source'
}
