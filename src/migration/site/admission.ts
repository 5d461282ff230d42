// Takes in the disks that a peer is about to move here: decides whether they may come, makes incoming disks of them, and starts
// the course of the move.
//
// What always holds: all disks and their migration are recorded in one transaction: none comes without the others. Asked
// twice for the same migration, the answer is the same. Nothing here makes this site their owner.

import type { Disk } from '../../disk/disk.ts'
import type { Disks } from '../../disk/disks.ts'
import { Refusal } from '../../disk/refusal.ts'
import { lackOfRoom } from '../../disk/room.ts'
import { PeerRefusal } from '../../link/channel.ts'
import type { DiskRecord, MigrationRecord } from '../../store/records.ts'
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
  if (services.readOnly) throw new PeerRefusal('read-only', 'the destination serves read-only: it takes no disks')
  const peer = services.peer(peerId)
  for (const { id } of preparation.disks) {
    const gone = disks.get(id)
    if (gone?.state === 'gone') await disks.remove(gone) // It could not be removed when it was cancelled.
  }
  await makeRoom(services, preparation.disks)
  using claims = new DisposableStack()
  await claimAll(services, peerId, preparation, claims)
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
  const course = await openCourse(services, record, records)
  roster.add(course)
  course.start()
}

/** Whether they may come, looked at in the same way, and nothing else. @throws PeerRefusal */
export async function checkAdmission(
  services: MigrationsServices,
  peerId: string,
  preparation: Pick<Preparation, 'disks' | 'terms'>,
): Promise<void> {
  if (services.readOnly) throw new PeerRefusal('read-only', 'the destination serves read-only: it takes no disks')
  using claims = new DisposableStack()
  await claimAll(services, peerId, preparation, claims)
}

/** @throws PeerRefusal */
async function claimAll(
  services: MigrationsServices,
  peerId: string,
  preparation: Pick<Preparation, 'disks' | 'terms'>,
  claims: DisposableStack,
): Promise<void> {
  const { disks } = services
  checkDifferent(preparation.disks)
  for (const disk of preparation.disks) {
    claims.use(checkReturn(disks, disk))
    claims.use(claimName(disks, disk.name, disk.id))
  }
  checkSpace(await services.freeBytes(), preparation.disks)
  await checkSeed(services, peerId, preparation.terms.seed)
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

/** A site lends only what its operator allowed: by what is fetched of a seed and what is not, a peer learns what it is. */
async function checkSeed({ seeds }: MigrationsServices, peerId: string, seed: string | undefined): Promise<void> {
  const refusal =
    seed === undefined ? undefined : ((await seeds?.refusal(seed, peerId)) ?? (seeds ? undefined : noSeeds))
  if (refusal !== undefined) throw new PeerRefusal('seed-unknown', refusal)
}

const noSeeds = 'that site lends no seeds'

/** What moves that were cancelled left gives way to disks that come, the oldest first; but for what is a seed of theirs. */
async function makeRoom({ disks, freeBytes, log }: MigrationsServices, coming: readonly OfferedDisk[]): Promise<void> {
  const seeds = disks
    .all()
    .filter((disk) => disk.isSeedOnly && disk.record.migrationId === null && !coming.some(({ id }) => id === disk.id))
    .toSorted((one, other) => one.record.createdAt.localeCompare(other.record.createdAt))
  for (const seed of seeds) {
    if (lackFor(await freeBytes(), coming) === undefined) return
    log('info', { disk: seed.name }, 'what a cancelled move left of it gives way to a disk that comes')
    await disks.remove(seed)
  }
}

/** Room for all of them together. */
function checkSpace(freeBytes: number, disks: readonly OfferedDisk[]): void {
  const lack = lackFor(freeBytes, disks)
  if (lack !== undefined) throw new PeerRefusal('no-space', `the destination has ${lack}`)
}

function lackFor(freeBytes: number, disks: readonly OfferedDisk[]): string | undefined {
  const neededBytes = disks.reduce((sum, disk) => sum + disk.allocatedBytes, 0)
  return lackOfRoom(freeBytes, disks.map(({ name }) => name).join(', '), neededBytes)
}
