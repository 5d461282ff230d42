// Takes in the disk that a peer is about to move here: decides whether it may come, makes an incoming disk of it, and starts
// its course.
//
// What always holds: the disk and its migration are recorded in one transaction. Asked twice for the same migration, the
// answer is the same. Nothing here makes this site the disk's owner.

import type { Disk } from '../../disk/disk.ts'
import type { Disks } from '../../disk/disks.ts'
import { Refusal } from '../../disk/refusal.ts'
import { lackOfRoom } from '../../disk/room.ts'
import { PeerRefusal } from '../../link/channel.ts'
import type { Change } from '../../store/records.ts'
import type { OfferedDisk, Preparation } from '../counterpart.ts'
import { DestinationCourse } from '../destination/destination-course.ts'
import { newRecord } from '../new-record.ts'
import type { Roster } from './roster.ts'
import type { MigrationsServices } from './services.ts'

/** @throws PeerRefusal */
export async function admit(
  services: MigrationsServices,
  roster: Roster,
  peerId: string,
  preparation: Preparation,
): Promise<void> {
  const { disks, clock } = services
  const { migration, terms, boot } = preparation
  if (roster.get(migration)) return // Asked again: the answer was lost.
  const disk = onlyDisk(preparation)
  if (services.readOnly) throw new PeerRefusal('read-only', 'the destination serves read-only: it takes no disks')
  const peer = services.peer(peerId)
  const gone = disks.get(disk.id)
  if (gone?.state === 'gone') await disks.remove(gone) // It could not be removed when it was cancelled.
  using _return = checkReturn(disks, disk)
  using _name = claimName(disks, disk.name, disk.id)
  checkSpace(await services.freeBytes(), disk.name, disk.allocatedBytes)
  const createdAt = clock.date().toISOString()
  const record = newRecord({
    id: migration,
    role: 'destination',
    state: 'ready',
    disks: [disk],
    owner: peer.site,
    peer,
    transport: services.transport(peerId),
    terms,
    startedAt: createdAt,
    sourceBoot: boot,
  })
  const facts = { ...disk, owner: peer.site, migrationId: migration, createdAt }
  const diskRecord = await disks.prepareIncoming(facts, [{ put: 'migration', record }] satisfies Change[])
  const course = await DestinationCourse.open(services, record, services.counterpart(peerId), true, (remote) =>
    disks.open(diskRecord, remote),
  )
  roster.add(course)
  course.start()
}

/** @throws PeerRefusal */
function onlyDisk({ disks }: Preparation): OfferedDisk {
  const [disk] = disks
  if (disk && disks.length === 1) return disk
  throw new PeerRefusal('several-disks', `a move is of one disk here, and ${disks.length} were offered`)
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

function checkSpace(freeBytes: number, name: string, neededBytes: number): void {
  const lack = lackOfRoom(freeBytes, name, neededBytes)
  if (lack !== undefined) throw new PeerRefusal('no-space', `the destination has ${lack}`)
}
