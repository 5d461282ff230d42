// What a peer may do at this site: which disks it may have moved to itself, whether the word of its operator decides when, and
// how much of this site it may have.
//
// What always holds: of a disk nothing, until the operator here has said so. What is not limited by the operator has a limit
// all the same, which no honest site meets.

import type { PeerLimits, PeerRecord } from '../store/records.ts'

export interface PeerRights {
  /** `migrate --from` there: whether it may ask for the disk. */
  mayTake(diskId: string): boolean
  /** Whether its operator may say when the disk passes. */
  maySayWhen(diskId: string): boolean
  readonly limits: PeerLimits
  /** The peer wanted more than that: it is counted. */
  reached(limit: keyof PeerLimits): void
}

/** For every disk of a site, also those that are not there yet. */
export const everyDisk = '*'

const tebibyte = 2 ** 40

export const usualLimits: PeerLimits = {
  disks: 1000,
  bytes: 1024 * tebibyte,
  sizeBytes: 16 * 1024 * tebibyte,
  calls: 2048,
  digests: 16,
  junkBytes: 64 * 2 ** 20,
}

/** undefined: it is no peer any more. */
export function rightsOf(
  peer: Pick<PeerRecord, 'mayTake' | 'limits'> | undefined,
  reached: PeerRights['reached'] = () => {},
): PeerRights {
  const allowed = peer?.mayTake ?? []
  const entriesOf = (diskId: string) => allowed.filter(({ disk }) => disk === everyDisk || disk === diskId)
  return {
    mayTake: (diskId) => entriesOf(diskId).length > 0,
    maySayWhen: (diskId) => entriesOf(diskId).some(({ give }) => give),
    limits: { ...usualLimits, ...peer?.limits },
    reached,
  }
}
