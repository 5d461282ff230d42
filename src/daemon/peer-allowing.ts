// What an operator allows a peer, and takes back: which disks of this site it may have moved to itself, who says when, and how much
// it may have here. Pure.

import type { AllowRequest } from '../control/types.ts'
import type { Disk } from '../disk/disk.ts'
import { Refusal } from '../disk/refusal.ts'
import { everyDisk } from '../migration/peer-rights.ts'
import type { MayTake, PeerLimits, PeerRecord } from '../store/records.ts'

/** `diskNamed`: of this site. @throws Refusal, what it throws */
export function allowed(
  now: PeerRecord,
  { take, give = false, revoke = false, limits = {} }: AllowRequest,
  diskNamed: (name: string) => Pick<Disk, 'id'>,
): Pick<PeerRecord, 'mayTake' | 'limits'> {
  if (take === undefined && (give || revoke)) {
    const message = `${give ? '--give' : '--revoke'} goes with --take DISK: it is said of disks`
    throw new Refusal('bad-request', message, { exit: 2, safe: 'Nothing was changed.' })
  }
  const set: Record<string, number> = { ...now.limits }
  for (const [name, value] of Object.entries(limits)) {
    if (value === null) delete set[name]
    else if (value !== undefined) set[name] = value
  }
  const mayTake = take === undefined ? now.mayTake : taken(now, take, { give, revoke }, diskNamed)
  return { mayTake, limits: set as Partial<PeerLimits> }
}

function taken(
  now: PeerRecord,
  take: string,
  { give, revoke }: { readonly give: boolean; readonly revoke: boolean },
  diskNamed: (name: string) => Pick<Disk, 'id'>,
): readonly MayTake[] {
  if (revoke && take === everyDisk) return []
  // A disk that is gone from here may still be named by its id.
  const isListed = now.mayTake.some(({ disk }) => disk === take)
  const disk = take === everyDisk || isListed ? take : diskNamed(take).id
  const others = now.mayTake.filter((each) => each.disk !== disk)
  if (!revoke) return [...others, { disk, give }]
  if (now.mayTake.some((each) => each.disk === everyDisk)) {
    const message = `${now.name} may take every disk, and so ${take} too`
    const next = `Say vmstore peer allow ${now.name} --take '*' --revoke, and then which disks it may take.`
    throw new Refusal('still-allowed', message, { safe: 'Nothing was changed.', next })
  }
  return others
}
