// What operators see of disks and migrations: plain JSON, made from the live objects and the records.

import type { DiskView, MigrationState, MigrationView, RangeView } from '../control/types.ts'
import type { Disk } from '../disk/disk.ts'
import { unknownOwner } from '../disk/states.ts'
import type { Course } from '../migration/course.ts'
import { namedRanges } from '../migration/unreadable.ts'
import { blockSizeBytes } from '../store/block-map.ts'
import type { MigrationCounters, MigrationRecord } from '../store/records.ts'

/** What this site calls other sites. */
export interface Naming {
  /** `this site`, a peer's name, or the id itself. */
  siteName(siteId: string): string
  peerName(peerId: string): string
  isConnected(peerId: string): boolean
}

export function diskView(disk: Disk, course: Course | undefined, naming: Naming): DiskView {
  const { record } = disk
  const owner = course?.owner ?? record.owner
  return {
    name: record.name,
    id: record.id,
    size: record.sizeBytes,
    state: disk.gate.frozen ? 'freezing' : record.state,
    generation: record.generation,
    owner,
    ownerName: owner === unknownOwner ? unknownOwner : naming.siteName(owner),
    blockSize: blockSizeBytes,
    present: presentOf(disk),
    exposed: course ? exposedOf(course) : 0,
    allocated: disk.allocatedBytes(),
    path: record.path,
    sessions: disk.sessions.count,
    writes: disk.sessions.writes,
    migration: record.migrationId,
    trouble: disk.trouble ?? null,
  }
}

/** What would be lost with the source: nothing before switchover, when the source owns. */
function exposedOf({ disk, missingBytes }: Course): number {
  return disk.state === 'arriving' || disk.state === 'departed' ? missingBytes : 0
}

function presentOf(disk: Disk): { blocks: number; bytes: number } {
  if (disk.state === 'incoming' || disk.state === 'gone') return { blocks: 0, bytes: 0 }
  if (disk.state === 'arriving' && disk.arrival)
    return { blocks: disk.arrival.presentBlocks, bytes: disk.arrival.presentBytes }
  return { blocks: Math.ceil(disk.sizeBytes / blockSizeBytes), bytes: disk.sizeBytes }
}

export function courseView(course: Course, naming: Naming): MigrationView {
  const { rate, secondsLeft } = course.pace
  return view(course.record, naming, {
    state: course.liveState as MigrationState,
    owner: course.owner,
    counters: course.counters,
    missing: course.missingBytes,
    exposed: exposedOf(course),
    unreadable: course.unreadable.slice(0, namedRanges),
    rate,
    secondsLeft,
    note: course.note,
  })
}

/** A migration that is over. */
export function recordView(record: MigrationRecord, naming: Naming, ownSite: string): MigrationView {
  const isDone = record.state === 'done'
  const here = (record.role === 'destination') === isDone
  return view(record, naming, {
    state: record.state as MigrationState,
    owner: here ? ownSite : record.peerSite,
    counters: record.counters,
    missing: isDone ? 0 : record.sizeBytes,
    exposed: 0,
    unreadable: [],
    rate: 0,
    secondsLeft: null,
    note: record.note,
  })
}

interface LiveFacts {
  readonly state: MigrationState
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
  return {
    id: record.id,
    disk: record.diskName,
    role: record.role,
    peer: naming.peerName(record.peerId),
    state: facts.state,
    mode: record.mode,
    switchover: record.switchover,
    transport: record.transport,
    generation: record.generation,
    owner: facts.owner,
    bytes: { disk: record.sizeBytes, ...facts.counters, missing: facts.missing, exposed: facts.exposed },
    seconds: {
      total: (at(record.endedAt) - Date.parse(record.startedAt)) / 1000,
      precopy: 0,
      switchover: record.switchoverMs / 1000,
      postcopy: record.switchedAt === null ? 0 : (at(record.endedAt) - at(record.switchedAt)) / 1000,
    },
    rate: facts.rate,
    secondsLeft: facts.secondsLeft,
    verified: record.verified,
    connected: naming.isConnected(record.peerId),
    unreadable: facts.unreadable,
    differed: record.differed,
    paused: record.paused,
    note: facts.note,
    startedAt: record.startedAt,
  }
}
