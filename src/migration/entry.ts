// What a site is told that speaks of other disks than those of the move.

import { PeerRefusal } from '../link/channel.ts'

export function otherDisks(meant: readonly string[], spokenOf: readonly { readonly disk: string }[]): PeerRefusal {
  const named = spokenOf.map((each) => each.disk).join(', ')
  const message = `the move is of disk ${meant.join(', ')}, and what came speaks of ${named || 'none'}`
  return new PeerRefusal('other-disks', message)
}
