// Goes on with every migration that a daemon which ended has left, when the next one starts.
//
// What always holds: a migration whose disk is not in it is over, whatever its record says: it never began. One disk that
// cannot be opened stops its own migration, until the next start, and no other disk.

import type { DiskRecord, MigrationRecord } from '../../store/records.ts'
import { endedStates } from '../course.ts'
import { DestinationCourse } from '../destination/destination-course.ts'
import { changed, diskNames, onlyDisk } from '../move.ts'
import { SourceCourse } from '../source/source-course.ts'
import type { Beginnings } from './beginnings.ts'
import type { Roster } from './roster.ts'
import type { MigrationsServices } from './services.ts'

export interface ResumptionParts {
  readonly services: MigrationsServices
  readonly roster: Roster
  readonly beginnings: Beginnings
  readonly diskRecords: readonly DiskRecord[]
}

/** Opens the disks that are on their way here, and goes on with every migration. Other disks are open already. */
export async function takeUpAll(parts: ResumptionParts, records: readonly MigrationRecord[]): Promise<void> {
  for (const record of records) {
    const diskRecord = diskRecordOf(parts, record)
    if (endedStates.includes(record.state)) parts.roster.remember(record)
    else if (diskRecord?.migrationId !== record.id) await endStray(parts, record)
    else if (record.role === 'source') takeUpSource(parts, record)
    else await takeUpDestination(parts, record).catch((error: unknown) => leaveAside(parts, record, error))
  }
  // Only now is it known which migrations there are. A peer that asked before was told to ask again.
  parts.roster.takenUp()
}

function diskRecordOf({ diskRecords }: ResumptionParts, record: MigrationRecord): DiskRecord | undefined {
  return diskRecords.find((each) => each.id === onlyDisk(record).id)
}

/** A record whose disk is in no migration, or in another: what a commit that was reported as failed may leave. */
async function endStray(parts: ResumptionParts, record: MigrationRecord): Promise<void> {
  const { services, roster } = parts
  const { clock, records, log } = services
  const endedAt = clock.date().toISOString()
  const owner = diskRecordOf(parts, record)?.owner ?? onlyDisk(record).owner
  const note = 'it never began: its disk was not put into it'
  const ended = changed(record, { state: 'failed', endedAt, note, disks: { [onlyDisk(record).id]: { owner } } })
  roster.past.add(ended)
  log('warn', { migration: record.id, disk: diskNames(record) }, 'a migration that never began is ended')
  await records.commit([{ put: 'migration', record: ended }]).catch(() => {}) // The next start does it again.
}

function leaveAside(parts: ResumptionParts, record: MigrationRecord, error: unknown): void {
  const { disks, log } = parts.services
  const reason = (error as Error).message
  const diskRecord = diskRecordOf(parts, record)
  if (diskRecord && !disks.get(diskRecord.id)) disks.addUnusable(diskRecord, `it cannot be opened: ${reason}`)
  parts.roster.past.add({ ...record, note: `stopped until the next start: ${reason}` })
  log('error', { migration: record.id, disk: diskNames(record), error: reason }, 'a migration cannot be taken up')
}

function takeUpSource({ services, roster, beginnings }: ResumptionParts, record: MigrationRecord): void {
  const disk = services.disks.get(onlyDisk(record).id)
  if (!disk) throw notRecorded(record)
  const course = new SourceCourse(services, [disk], record, services.counterpart(record.peerId))
  roster.add(course)
  // Nobody waits any more for a migration that was only being prepared.
  if (record.state === 'preparing') void beginnings.undo(course)
  else course.takeUp()
}

async function takeUpDestination(parts: ResumptionParts, record: MigrationRecord): Promise<void> {
  const { services, roster } = parts
  const { disks, counterpart } = services
  const course = await DestinationCourse.open(
    services,
    record,
    counterpart(record.peerId),
    false,
    async (remote, id) => {
      const open = disks.get(id)
      if (open?.isUnusable) throw new Error(open.trouble)
      if (open) return open
      const diskRecord = parts.diskRecords.find((each) => each.id === id)
      if (!diskRecord) throw notRecorded(record)
      return disks.open(diskRecord, remote)
    },
  )
  roster.add(course)
  course.start()
}

function notRecorded(record: MigrationRecord): Error {
  return new Error(`migration ${record.id} is recorded, its disk ${diskNames(record)} is not`)
}
