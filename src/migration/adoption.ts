// Disks from before deeds get one, signed with this site's key: each site says of its own disks what its records had said until
// then. It is done once, when a daemon starts on records that it has just upgraded, before anybody is served. Pure.
//
// What always holds: the records say who owns as they did before. Who gave a disk away says that it was given, so that the
// deed of whoever has it now, which that site signs for itself, joins this one (deed/relation.ts).

import type { Deed } from '../deed/entries.ts'
import type { SigningKey } from '../deed/keys.ts'
import { signAdopted, signGiven, signReleased, signTakenBack } from '../deed/signing.ts'
import type { Change, DiskRecord, MigrationRecord, PeerRecord, SiteRecords } from '../store/records.ts'

const fingerprint = /^[0-9a-f]{64}$/
const takenBackWord = 'disk reclaim, before disks had deeds'

/** The disks that get a deed. `at`: time of day. */
export function adopted(
  { disks, migrations, peers }: SiteRecords,
  key: SigningKey,
  at: string,
): readonly Extract<Change, { readonly put: 'disk' }>[] {
  return disks.flatMap((record) => {
    const deed = record.deed === null ? deedOf(record, migrations, peers, key, at) : undefined
    return deed ? [{ put: 'disk' as const, record: { ...record, deed } }] : []
  })
}

/** undefined: this site cannot say, and needs not: it serves the disk to nobody, and gives it to nobody. */
function deedOf(
  record: DiskRecord,
  migrations: readonly MigrationRecord[],
  peers: readonly PeerRecord[],
  key: SigningKey,
  at: string,
): Deed | undefined {
  const { id, state, generation } = record
  const given = () => {
    const move = migrations.find((each) => isOf(each, record, generation)) ?? ofOwner(record, peers)
    if (!move || !fingerprint.test(move.peerId)) return undefined
    const gift = { to: move.peerId, toSite: move.peerSite, move: move.id }
    return signGiven(key, signAdopted(key, id, generation - 1, at), gift, at)
  }
  const own = () => signAdopted(key, id, generation, at, giverOf(record, migrations))
  if (state === 'arriving') return own()
  if (state === 'owned') return reclaimed(record, migrations, key, at) ?? own()
  if (state === 'departed') return given()
  const deed = state === 'released' ? given() : undefined
  return deed && signReleased(key, deed, at)
}

/** Fingerprint of the site that gave this generation to this one, unless it has heard that everything is here. */
function giverOf({ id, generation }: DiskRecord, migrations: readonly MigrationRecord[]): string | undefined {
  const isIt = ({ role, disks, peerId }: MigrationRecord) =>
    role === 'destination' &&
    fingerprint.test(peerId) &&
    disks.some((disk) => disk.id === id && disk.generation === generation)
  const move = migrations.find(isIt)
  const isHeard = move?.state === 'done' && move.sourceTold
  return isHeard ? undefined : move?.peerId
}

/** The move by which this site gave the generation away. */
function isOf({ role, disks }: MigrationRecord, { id }: DiskRecord, generation: number): boolean {
  return role === 'source' && disks.some((disk) => disk.id === id && disk.generation === generation)
}

/** Of a move that is forgotten: the site that owns the disk is known, if it is a peer. */
function ofOwner({ owner, id }: DiskRecord, peers: readonly PeerRecord[]) {
  const peer = peers.find(({ site }) => site === owner)
  return peer && { peerId: peer.fingerprint, peerSite: owner, id }
}

/** Whoever had it must see that what it was given is void. */
function reclaimed(
  { id, generation }: DiskRecord,
  migrations: readonly MigrationRecord[],
  key: SigningKey,
  at: string,
): Deed | undefined {
  const isIt = ({ role, disks, peerId }: MigrationRecord) =>
    role === 'source' &&
    fingerprint.test(peerId) &&
    disks.some((disk) => disk.id === id && disk.reclaimedAs === generation)
  const move = migrations.find(isIt)
  if (!move) return undefined
  const gift = { to: move.peerId, toSite: move.peerSite, move: move.id }
  const before = signGiven(key, signAdopted(key, id, generation - 2, at), gift, at)
  return signTakenBack(key, before, takenBackWord, at)
}
