// What a message about every disk of a move says of one of them.

import { PeerRefusal } from '../link/channel.ts'
import type { DiskAt } from './counterpart.ts'

/** The entry of a disk, in a move of which it is the only one. @throws PeerRefusal when others are named, or it is not */
export function entryOf<Entry extends { readonly disk: string }>(entries: readonly Entry[], disk: string): Entry {
  const [entry] = entries
  if (entries.length === 1 && entry?.disk === disk) return entry
  throw otherDisks([disk], entries)
}

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

function otherDisks(meant: readonly string[], spokenOf: readonly { readonly disk: string }[]): PeerRefusal {
  const named = spokenOf.map((each) => each.disk).join(', ')
  const message = `the move is of disk ${meant.join(', ')}, and what came speaks of ${named || 'none'}`
  return new PeerRefusal('other-disks', message)
}
