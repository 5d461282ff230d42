// What a message about every disk of a move says of one of them.

import { PeerRefusal } from '../link/channel.ts'

/** The entry of a disk, in a move of which it is the only one. @throws PeerRefusal when others are named, or it is not */
export function entryOf<Entry extends { readonly disk: string }>(entries: readonly Entry[], disk: string): Entry {
  const [entry] = entries
  if (entries.length === 1 && entry?.disk === disk) return entry
  const named = entries.map((each) => each.disk).join(', ')
  throw new PeerRefusal('other-disks', `the move is of disk ${disk}, and what came speaks of ${named || 'none'}`)
}
