// Takes in the disks that a peer is about to move here: decides whether they may come, makes incoming disks of them, and starts
// the course of the move.
//
// What always holds: a disk comes with its deed, by which it is the peer's, and which is not older than what is known here. All disks and their migration are recorded in one transaction: none comes without the others. Asked
// twice for the same migration, the answer is the same. Nothing here makes this site their owner.

import { DeedError } from '../../deed/deed.ts'
import type { Deed } from '../../deed/entries.ts'
import type { Disk } from '../../disk/disk.ts'
import type { Disks } from '../../disk/disks.ts'
import { Refusal } from '../../disk/refusal.ts'
import { lackOfRoom } from '../../disk/room.ts'
import { LinkError, PeerRefusal } from '../../link/channel.ts'
import type { DiskRecord, MigrationRecord } from '../../store/records.ts'
import type { OfferedDisk, Preparation } from '../counterpart.ts'
import { askDeed, checkOffered } from '../deeds.ts'
import { DestinationCourse } from '../destination/destination-course.ts'
import { newRecord } from '../new-record.ts'
import type { Roster } from './roster.ts'
import type { MigrationsServices } from './services.ts'

/** `deedOf`: of a disk that is, or was, here, as far as this site knows. @throws PeerRefusal */
export async function admit(
  services: MigrationsServices,
  roster: Roster,
  peerId: string,
  preparation: Preparation,
  deedOf: (diskId: string) => Deed | null,
  signal: AbortSignal,
): Promise<void> {
  const { disks, clock } = services
  const { migration, terms, boot } = preparation
  if (roster.get(migration)) return // Asked again: the answer was lost.
  if (services.readOnly) throw new PeerRefusal('read-only', 'the destination serves read-only: it takes no disks')
  const peer = services.peer(peerId)
  checkDifferent(preparation.disks)
  const offered = await deedsOf(services, peerId, preparation.disks, AbortSignal.any([signal, roster.stopping]))
  if (roster.get(migration)) return // It was asked again meanwhile.
  for (const { id, name, generation } of preparation.disks)
    checkOffered(offered.get(id)!, { name, peerId, generation, known: deedOf(id) })
  for (const { id } of preparation.disks) {
    const gone = disks.get(id)
    if (gone?.state === 'gone') await disks.remove(gone) // It could not be removed when it was cancelled.
  }
  using claims = new DisposableStack()
  for (const disk of preparation.disks) {
    claims.use(checkReturn(disks, disk))
    claims.use(claimName(disks, disk.name, disk.id))
  }
  checkSpace(await services.freeBytes(), preparation.disks)
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
  const coming = preparation.disks.map((disk) => ({ ...disk, ...facts, offered: offered.get(disk.id)! }))
  const records = await disks.prepareIncoming(coming, [{ put: 'migration', record }])
  const course = await openCourse(services, record, records)
  roster.add(course)
  course.start()
}

/** By their ids. @throws PeerRefusal when one could not be had, or is none */
async function deedsOf(
  { clock, counterpart }: MigrationsServices,
  peerId: string,
  disks: readonly OfferedDisk[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Deed>> {
  const deeds = new Map<string, Deed>()
  for (const { id, name, head } of disks) {
    try {
      deeds.set(id, await askDeed(counterpart(peerId), id, { clock, head, signal }))
    } catch (error) {
      if (error instanceof DeedError)
        throw new PeerRefusal('deed-invalid', `the deed of ${name} is none: ${error.message}`)
      if (error instanceof LinkError || error instanceof PeerRefusal)
        throw new PeerRefusal('deed-not-had', `the deed of ${name} could not be had: ${error.message}`)
      throw error
    }
  }
  return deeds
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

/** A disk that was here before may come back; one that is here in any other way may not. */
function checkReturn(disks: Disks, disk: OfferedDisk): Disposable | undefined {
  const here = disks.get(disk.id)
  if (!here) return undefined
  const mayReturn = here.state === 'released' || here.state === 'superseded'
  if (mayReturn && disk.generation >= here.record.generation && disk.sizeBytes === here.sizeBytes)
    return reservedFor(here)
  const { generation } = here.record
  throw new PeerRefusal(
    'disk-here',
    `${disk.name} (${disk.id}) is ${here.state} there, in generation ${generation}, with ${here.sizeBytes} bytes`,
  )
}

/** Nobody deletes a disk while it comes back. */
function reservedFor(disk: Disk): Disposable {
  return forPeer(() => disk.reserve('it is coming back'))
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

/** Room for all of them together. */
function checkSpace(freeBytes: number, disks: readonly OfferedDisk[]): void {
  const neededBytes = disks.reduce((sum, disk) => sum + disk.allocatedBytes, 0)
  const lack = lackOfRoom(freeBytes, disks.map(({ name }) => name).join(', '), neededBytes)
  if (lack !== undefined) throw new PeerRefusal('no-space', `the destination has ${lack}`)
}
