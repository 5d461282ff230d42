// Goes on with every migration that a daemon which ended has left, when the next one starts.
//
// What always holds: a migration whose disks are not in it is over, whatever its record says: it never began. One disk that
// cannot be opened stops its own migration, until the next start, and no other: those that are on their way here with it are
// set aside too, for they are served by that migration.

import type { DiskRecord, MigrationRecord } from '../../store/records.ts'
import { endedStates } from '../course.ts'
import { DestinationCourse } from '../destination/destination-course.ts'
import { Remote } from '../destination/remote.ts'
import { changed, diskNames } from '../move.ts'
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
    if (endedStates.includes(record.state)) parts.roster.remember(record)
    else if (!diskRecordsOf(parts, record).some(({ migrationId }) => migrationId === record.id))
      await endStray(parts, record)
    else if (record.role === 'source') takeUpSource(parts, record)
    else await takeUpDestination(parts, record).catch((error: unknown) => leaveAside(parts, record, error))
  }
  await openStranded(parts)
  // Only now is it known which migrations there are. A peer that asked before was told to ask again.
  parts.roster.takenUp()
}

/** Disks whose move ended before all had come, because their source's site is trusted no more: they go on with what is here. */
async function openStranded({ services, diskRecords }: ResumptionParts): Promise<void> {
  const { disks, log } = services
  for (const record of diskRecords) {
    if (record.state !== 'arriving' || record.migrationId !== null || disks.get(record.id)) continue
    const remote = new Remote()
    remote.fail(new Error('its move ended before all had come, and what is missing is not to be had any more'))
    try {
      await disks.open(record, remote)
    } catch (error) {
      log('error', { disk: record.name, error: String(error) }, 'a disk cannot be opened: it is not served')
      await disks.setAside(record, `it cannot be opened: ${(error as Error).message}`)
    }
  }
}

/** Of the disks that have not left the move. */
function diskRecordsOf({ diskRecords }: ResumptionParts, { disks }: MigrationRecord): readonly DiskRecord[] {
  const inMove = new Set(disks.filter(({ hasLeft }) => !hasLeft).map(({ id }) => id))
  return diskRecords.filter(({ id }) => inMove.has(id))
}

/** A record whose disks are in no migration, or in another: what a commit that was reported as failed may leave. */
async function endStray(parts: ResumptionParts, record: MigrationRecord): Promise<void> {
  const { services, roster } = parts
  const { clock, records, log } = services
  const endedAt = clock.date().toISOString()
  const owners = diskRecordsOf(parts, record).map(({ id, owner }) => [id, { owner }])
  const isOne = record.disks.length === 1
  const note = `it never began: its ${isOne ? 'disk was' : 'disks were'} not put into it`
  const ended = changed(record, { state: 'failed', endedAt, note, disks: Object.fromEntries(owners) })
  roster.past.add(ended)
  log('warn', { migration: record.id, disk: diskNames(record) }, 'a migration that never began is ended')
  await records.commit([{ put: 'migration', record: ended }]).catch(() => {}) // The next start does it again.
}

async function leaveAside(parts: ResumptionParts, record: MigrationRecord, error: unknown): Promise<void> {
  const { disks, log } = parts.services
  const reason = (error as Error).message
  const trouble =
    record.disks.length === 1
      ? `it cannot be opened: ${reason}`
      : `its migration, with ${diskNames(record)}, cannot be taken up: ${reason}`
  for (const each of diskRecordsOf(parts, record)) {
    const isServedByIt = each.state === 'incoming' || each.state === 'arriving'
    if (isServedByIt || !disks.get(each.id)) await disks.setAside(each, trouble)
  }
  parts.roster.past.add({ ...record, note: `stopped until the next start: ${reason}` })
  log('error', { migration: record.id, disk: diskNames(record), error: reason }, 'a migration cannot be taken up')
}

function takeUpSource({ services, roster, beginnings }: ResumptionParts, record: MigrationRecord): void {
  const inMove = record.disks.filter(({ hasLeft }) => !hasLeft)
  const disks = inMove.flatMap(({ id }) => services.disks.get(id) ?? [])
  if (disks.length < inMove.length) throw notRecorded(record)
  const course = new SourceCourse(services, disks, record, services.counterpart(record.peerId))
  roster.add(course)
  // Nobody waits any more for a migration that was only being prepared.
  if (record.state === 'preparing') void beginnings.undo(course)
  else course.takeUp()
}

async function takeUpDestination(parts: ResumptionParts, record: MigrationRecord): Promise<void> {
  const { services, roster } = parts
  const { disks, counterpart } = services
  const course = await DestinationCourse.open(
    { ...services, freeBytes: () => roster.roomOf(record.peerId) },
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
  return new Error(`migration ${record.id} is recorded, not every disk of ${diskNames(record)} is`)
}
