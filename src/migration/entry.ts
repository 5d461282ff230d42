// Looks that what the other site says of the disks of a move is of those disks.

import { PeerRefusal } from '../link/channel.ts'
import type { DiskAt } from './counterpart.ts'

/** Looks that an answer speaks of the disks that were asked for, and of no other. @throws PeerRefusal */
export function checkNamed(asked: readonly DiskAt[], answered: readonly DiskAt[]): void {
  const isNamed = ({ disk, generation }: DiskAt) =>
    answered.some((each) => each.disk === disk && each.generation === generation)
  if (answered.length !== asked.length || !asked.every(isNamed))
    throw otherDisks(
      asked.map(({ disk }) => disk),
      answered,
    )
}

export function otherDisks(meant: readonly string[], spokenOf: readonly { readonly disk: string }[]): PeerRefusal {
  const named = spokenOf.map((each) => each.disk).join(', ')
  const message = `the move is of disk ${meant.join(', ')}, and what came speaks of ${named || 'none'}`
  return new PeerRefusal('other-disks', message)
}
