// Takes in the disks that a peer is about to move here: decides whether they may come, makes incoming disks of them, and starts
// the course of the move.
//
// What always holds: all disks and their migration are recorded in one transaction: none comes without the others. Asked
// twice for the same migration, the answer is the same. Nothing here makes this site their owner.

import type { Disk } from '../../disk/disk.ts'
import type { Disks } from '../../disk/disks.ts'
import { Refusal } from '../../disk/refusal.ts'
import { lackOfRoom, neededText } from '../../disk/room.ts'
import { PeerRefusal } from '../../link/channel.ts'
import type { DiskRecord, MigrationRecord } from '../../store/records.ts'
import type { OfferedDisk, Preparation } from '../counterpart.ts'
import { DestinationCourse } from '../destination/destination-course.ts'
import { newRecord } from '../new-record.ts'
import { knownMigration } from './placements.ts'
import type { Roster } from './roster.ts'
import type { MigrationsServices } from './services.ts'

/** @throws PeerRefusal */
export async function admit(
  services: MigrationsServices,
  roster: Roster,
  peerId: string,
  offered: Preparation,
): Promise<void> {
  const { disks, clock } = services
  /** A disk that comes back has the name that it has here, unless the operator has chosen another. */
  const named = (disk: OfferedDisk): OfferedDisk => {
    const here = isTheirs(roster, peerId, disk.id) ? disks.get(disk.id) : undefined
    return here && offered.terms.as === undefined ? { ...disk, name: here.name } : disk
  }
  const preparation = { ...offered, disks: offered.disks.map((disk) => named(disk)) }
  const { migration, terms, boot } = preparation
  const known = roster.get(migration)?.record
  if (known && isSame(known, peerId, preparation)) return // Asked again: the answer was lost.
  if (known || roster.past.get(migration)) throw knownMigration(migration)
  if (services.readOnly) throw new PeerRefusal('read-only', 'the destination serves read-only: it takes no disks')
  const peer = services.peer(peerId)
  checkDifferent(preparation.disks)
  for (const { id } of preparation.disks) {
    const gone = disks.get(id)
    if (gone?.state === 'gone') await disks.remove(gone) // It could not be removed when it was cancelled.
  }
  using claims = new DisposableStack()
  claims.use(roster.placements.claimId(migration))
  for (const disk of preparation.disks) {
    claims.use(checkReturn(disks, disk, isTheirs(roster, peerId, disk.id)))
    claims.use(claimName(disks, disk.name, disk.id))
  }
  claims.use(roster.placements.claim(peerId, services.rights(peerId), roster.placedBy(peerId), preparation.disks))
  checkSpace(services, await services.freeBytes(), preparation.disks)
  const createdAt = clock.date().toISOString()
  const record = newRecord({
    id: migration,
    role: 'destination',
    state: 'ready',
    disks: preparation.disks,
    owner: peer.site,
    peer,
    transport: services.transport(peerId),
    terms,
    startedAt: createdAt,
    sourceBoot: boot,
  })
  const facts = { owner: peer.site, migrationId: migration, createdAt }
  const coming = preparation.disks.map((disk) => ({ ...disk, ...facts }))
  const records = await disks.prepareIncoming(coming, [{ put: 'migration', record }])
  const course = await openCourse({ ...services, freeBytes: () => roster.roomOf(peerId) }, record, records)
  roster.add(course)
  course.start()
}

async function openCourse(
  services: MigrationsServices,
  record: MigrationRecord,
  diskRecords: readonly DiskRecord[],
): Promise<DestinationCourse> {
  const { disks, counterpart } = services
  try {
    return await DestinationCourse.open(services, record, counterpart(record.peerId), true, (remote, id) =>
      disks.open(diskRecords.find((each) => each.id === id)!, remote),
    )
  } catch (error) {
    const trouble = `it cannot be opened: ${(error as Error).message}`
    for (const each of diskRecords) await disks.setAside(each, trouble) // The next start goes on with it.
    throw error
  }
}

/** @throws PeerRefusal */
function checkDifferent(disks: readonly OfferedDisk[]): void {
  for (const what of ['id', 'name'] as const) {
    const twice = disks.find((disk, index) => disks.findIndex((each) => each[what] === disk[what]) !== index)
    if (twice) throw new PeerRefusal('same-disk', `${twice.name} (${twice.id}) was offered twice`)
  }
}

/** Whether that is what was admitted. */
function isSame(record: MigrationRecord, peerId: string, { disks }: Preparation): boolean {
  const isThere = ({ id, generation }: OfferedDisk) =>
    record.disks.some((each) => each.id === id && each.generation === generation + 1)
  const isWhole = record.disks.length === disks.length && disks.every(isThere)
  return record.role === 'destination' && record.peerId === peerId && isWhole
}

/** Whether the disk has moved between this site and the peer: then it may know how it stands here. */
function isTheirs(roster: Roster, peerId: string, diskId: string): boolean {
  const isOf = ({ id }: { readonly id: string }) => id === diskId
  return roster.past.all().some((record) => record.peerId === peerId && record.disks.some(isOf))
}

/**
 * A disk that was here before may come back; one that is here in any other way may not. `isKnown`: the peer may know how it
 * stands here; else it hears one bit.
 */
function checkReturn(disks: Disks, disk: OfferedDisk, isKnown: boolean): Disposable | undefined {
  const here = disks.get(disk.id)
  if (!here) return undefined
  const mayReturn = here.state === 'released' || here.state === 'superseded'
  if (mayReturn && disk.generation >= here.record.generation && disk.sizeBytes === here.sizeBytes)
    return reservedFor(here, disk)
  const { generation } = here.record
  const how = isKnown
    ? `${here.state} there, in generation ${generation}, with ${here.sizeBytes} bytes`
    : 'there already'
  throw new PeerRefusal('disk-here', `${disk.name} (${disk.id}) is ${how}`)
}

/** Nobody deletes a disk while it comes back. The peer knows it by the name that it offers it by. */
function reservedFor(here: Disk, { name }: OfferedDisk): Disposable {
  try {
    return here.reserve('it is coming back')
  } catch (error) {
    if (error instanceof Refusal) throw new PeerRefusal(error.code, `${name} is busy there: ask again in a moment`)
    throw error
  }
}

function claimName(disks: Disks, name: string, id: string): Disposable {
  return forPeer(() => disks.claimName(name, id))
}

/** A refusal of this site, as the peer is told it. */
function forPeer(claim: () => Disposable): Disposable {
  try {
    return claim()
  } catch (error) {
    if (error instanceof Refusal) throw new PeerRefusal(error.code, error.toPeer)
    throw error
  }
}

/** Room for all of them together. How much there is the operator here is told, and not the peer. */
function checkSpace({ log }: MigrationsServices, freeBytes: number, disks: readonly OfferedDisk[]): void {
  const neededBytes = disks.reduce((sum, disk) => sum + disk.allocatedBytes, 0)
  const names = disks.map(({ name }) => name).join(', ')
  const lack = lackOfRoom(freeBytes, names, neededBytes)
  if (lack === undefined) return
  log(
    'warn',
    { disk: names, freeBytes, neededBytes },
    'a peer was refused: there is not room enough for what it moves here',
  )
  throw new PeerRefusal('no-space', `the destination has not room enough: ${names} needs ${neededText(neededBytes)}`)
}
