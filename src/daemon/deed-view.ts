// The deed of a disk, as operators see it.

import type { DeedView } from '../control/types.ts'
import { generationOf, holderOf } from '../deed/deed.ts'
import { fingerprintOfKey } from '../deed/keys.ts'
import type { Disk } from '../disk/disk.ts'
import { Refusal } from '../disk/refusal.ts'
import type { Naming } from './views.ts'

/** @throws Refusal `no-deed` */
export function deedView({ id, name, record, state }: Disk, naming: Naming): DeedView {
  // Before this site owns, what its source has shown is what there is.
  const deed = state === 'incoming' ? (record.offered ?? record.deed) : record.deed
  if (deed === null) {
    throw new Refusal('no-deed', `${name} has no deed here: it is ${state}`, {
      disk: name,
      next: 'Ask at the site that owns it.',
    })
  }
  const keys = new Set(deed.flatMap((entry) => [fingerprintOfKey(entry.by), ...('to' in entry ? [entry.to] : [])]))
  const known = [...keys].flatMap((key) => {
    const called = naming.keyName(key)
    return called === undefined ? [] : [[key, called] as const]
  })
  return {
    disk: id,
    name,
    generation: generationOf(deed),
    holder: holderOf(deed),
    names: Object.fromEntries(known),
    entries: deed,
  }
}
