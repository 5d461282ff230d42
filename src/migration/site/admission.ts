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
import { lackOfRoom, neededText } from '../../disk/room.ts'
import { LinkError, PeerRefusal } from '../../link/channel.ts'
import type { DiskRecord, MigrationRecord } from '../../store/records.ts'
import type { OfferedDisk, Preparation } from '../counterpart.ts'
import { askDeed, checkOffered } from '../deeds.ts'
import { DestinationCourse } from '../destination/destination-course.ts'
import { newRecord } from '../new-record.ts'
import { knownMigration } from './placements.ts'
import type { Roster } from './roster.ts'
import type { MigrationsServices } from './services.ts'

/** `deedOf`: of a disk that is, or was, here, as far as this site knows. @throws PeerRefusal */
export async function admit(
  services: MigrationsServices,
  roster: Roster,
  peerId: string,
  offer: Preparation,
  deedOf: (diskId: string) => Deed | null,
  signal: AbortSignal,
): Promise<void> {
  const { disks, clock } = services
  /** A disk that comes back has the name that it has here, unless the operator has chosen another. */
  const named = (disk: OfferedDisk): OfferedDisk => {
    const here = isTheirs(roster, peerId, disk.id) ? disks.get(disk.id) : undefined
    return here && offer.terms.as === undefined ? { ...disk, name: here.name } : disk
  }
  const preparation = { ...offer, disks: offer.disks.map((disk) => named(disk)) }
  const { migration, terms, boot } = preparation
  if (isAskedAgain(roster, peerId, preparation)) return
  if (services.readOnly) throw new PeerRefusal('read-only', 'the destination serves read-only: it takes no disks')
  const peer = services.peer(peerId)
  checkDifferent(preparation.disks)
  const offered = await deedsOf(services, peerId, preparation.disks, AbortSignal.any([signal, roster.stopping]))
  if (isAskedAgain(roster, peerId, preparation)) return // It was asked twice, and the other question was first.
  for (const { id, name, generation } of preparation.disks)
    checkOffered(offered.get(id)!, { name, peerId, generation, known: deedOf(id) })
  for (const { id } of preparation.disks) {
    const gone = disks.get(id)
    if (gone?.state === 'gone') await disks.remove(gone) // It could not be removed when it was cancelled.
  }
  await makeRoom(services, preparation.disks)
  using claims = new DisposableStack()
  claims.use(roster.placements.claimId(migration))
  await claimAll(services, roster, peerId, preparation, claims)
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
  const course = await openCourse({ ...services, freeBytes: () => roster.roomOf(peerId) }, record, records)
  roster.add(course)
  course.start()
}

/** Whether they may come, looked at in the same way, and nothing else. @throws PeerRefusal */
export async function checkAdmission(
  services: MigrationsServices,
  roster: Roster,
  peerId: string,
  preparation: Pick<Preparation, 'disks' | 'terms'>,
): Promise<void> {
  if (services.readOnly) throw new PeerRefusal('read-only', 'the destination serves read-only: it takes no disks')
  using claims = new DisposableStack()
  await claimAll(services, roster, peerId, preparation, claims)
}

/** @throws PeerRefusal */
async function claimAll(
  services: MigrationsServices,
  roster: Roster,
  peerId: string,
  preparation: Pick<Preparation, 'disks' | 'terms'>,
  claims: DisposableStack,
): Promise<void> {
  const { disks } = services
  checkDifferent(preparation.disks)
  for (const disk of preparation.disks) {
    claims.use(checkReturn(disks, disk, isTheirs(roster, peerId, disk.id)))
    claims.use(claimName(disks, disk.name, disk.id))
  }
  claims.use(roster.placements.claim(peerId, services.rights(peerId), roster.placedBy(peerId), preparation.disks))
  checkSpace(services, await services.freeBytes(), preparation.disks)
  await checkSeed(services, peerId, preparation.terms.seed)
}

/** The answer was lost. @throws PeerRefusal when another move, under way or past, has that id */
function isAskedAgain(roster: Roster, peerId: string, preparation: Preparation): boolean {
  const { migration } = preparation
  const known = roster.get(migration)?.record
  if (known && isSame(known, peerId, preparation)) return true
  if (known || roster.past.get(migration)) throw knownMigration(migration)
  return false
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

/** Room for all of them together. How much there is the operator here is told, and not the peer. */
function checkSpace({ log }: MigrationsServices, freeBytes: number, disks: readonly OfferedDisk[]): void {
  const neededBytes = disks.reduce((sum, disk) => sum + disk.allocatedBytes, 0)
  const names = disks.map(({ name }) => name).join(', ')
  const lack = lackFor(freeBytes, disks)
  if (lack === undefined) return
  log(
    'warn',
    { disk: names, freeBytes, neededBytes },
    'a peer was refused: there is not room enough for what it moves here',
  )
  throw new PeerRefusal('no-space', `the destination has not room enough: ${names} needs ${neededText(neededBytes)}`)
}

function lackFor(freeBytes: number, disks: readonly OfferedDisk[]): string | undefined {
  const neededBytes = disks.reduce((sum, disk) => sum + disk.allocatedBytes, 0)
  return lackOfRoom(freeBytes, disks.map(({ name }) => name).join(', '), neededBytes)
}
