// A key that is gone is not the owner: what its deed gives to another key than this site's is served to nobody. The key file
// was lost or replaced, and some other site may have the disk by now; or the data folder is another site's.

import { holderOf } from '../deed/deed.ts'
import type { DiskRecord } from '../store/records.ts'

/** Whether a disk that its record says is this site's is another key's by its deed. `own`: the fingerprint of this site's key. */
export function isOfAnotherKey({ state, deed }: DiskRecord, own: string): boolean {
  return (state === 'owned' || state === 'arriving') && deed !== null && holderOf(deed) !== own
}

/** What is wrong, what is safe, and what to do next. Of a disk of which that is so. */
export function keyGoneSentence({ path, state, deed }: DiskRecord, own: string): string {
  const held = `its deed names the key ${holderOf(deed!)} as its holder, and this site has another, ${own}: another site may own it by now, so it is served to nobody`
  const safe =
    state === 'owned'
      ? `Its bytes are safe in ${path}`
      : `What has come of it is safe in ${path}, and the rest is at its source`
  const anew =
    state === 'owned'
      ? `When nobody else has it, make a new disk of the bytes: vmstore disk create NEW --from ${path}`
      : 'When nobody else has it, take it back at its source: vmstore disk reclaim'
  return `${held}. ${safe}. Restore the file identity.key that belongs to that key, and start vmstore again. ${anew}.`
}
