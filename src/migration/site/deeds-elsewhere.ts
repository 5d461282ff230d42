// Before a disk is taken back: what other sites know of it. Every peer that can be reached is asked for its deed, whichever site
// the disk was given to: the site that has it now may have given it on, or have another key since.
//
// What always holds: a deed counts once it is verified. Who cannot be asked is named, for the operator who decides.

import { DeedError, generationOf, holderOf } from '../../deed/deed.ts'
import type { Deed } from '../../deed/entries.ts'
import { isVoidBeside } from '../../deed/relation.ts'
import type { Disk } from '../../disk/disk.ts'
import { PeerRefusal } from '../../link/channel.ts'
import { startingCode } from '../codes.ts'
import type { Course } from '../course.ts'
import { askDeed, releasesOf } from '../deeds.ts'
import { deedGoesOn } from '../refusals.ts'
import { withinTime } from '../within-time.ts'
import type { MigrationsServices, PeerFacts } from './services.ts'

const askTimeoutMs = 5_000

type Services = Pick<MigrationsServices, 'clock' | 'counterpart' | 'peers' | 'probe' | 'siteOf'>

/** Asks the peers of which `isAsked` says so. Resolves to the names of those that could not be asked. @throws Refusal `deed-goes-on` when the disk of the move went on */
export async function checkDeedsElsewhere(
  services: Services,
  course: Course,
  isAsked: (peer: PeerFacts) => boolean,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const asking = services.peers().filter(isAsked)
  const notAsked = await Promise.all(
    asking.map(async (peer) => {
      const found = await asked(services, course.inMove, peer, signal)
      if (found === undefined) return [peer.name]
      for (const { disk, theirs } of found) checkDeed(services, course, disk, theirs, peer)
      return []
    }),
  )
  return notAsked.flat()
}

interface Found {
  readonly disk: Disk
  readonly theirs: Deed
}

/** undefined: it cannot be reached, or what it answers cannot be understood. */
async function asked(
  { clock, counterpart, probe }: Services,
  disks: readonly Disk[],
  peer: PeerFacts,
  signal: AbortSignal,
): Promise<readonly Found[] | undefined> {
  try {
    return await withinTime(clock, askTimeoutMs, signal, async (limited) => {
      await probe(peer.id, limited)
      const found: Found[] = []
      for (const disk of disks) {
        const theirs = await deedAt(counterpart(peer.id), disk, clock, limited)
        if (theirs) found.push({ disk, theirs })
      }
      return found
    })
  } catch {
    signal.throwIfAborted()
    return undefined
  }
}

/** undefined: it has none. */
async function deedAt(
  there: Parameters<typeof askDeed>[0],
  { id }: Disk,
  clock: Services['clock'],
  signal: AbortSignal,
): Promise<Deed | undefined> {
  try {
    return await askDeed(there, id, { clock, signal })
  } catch (error) {
    // What is no deed shows nothing.
    if (error instanceof DeedError || (error instanceof PeerRefusal && error.code !== startingCode)) return undefined
    throw error
  }
}

/** @throws Refusal */
function checkDeed({ siteOf }: Services, course: Course, disk: Disk, theirs: Deed, peer: PeerFacts): void {
  const { deed: ours } = disk.record
  if (ours === null) return
  const holder = { site: siteOf(holderOf(theirs)), generation: generationOf(theirs) }
  if (isVoidBeside(ours, theirs)) throw deedGoesOn(disk, peer.name, holder)
  // This site has signed that it lets the disk go, and is an old copy of itself.
  if (releasesOf([theirs], course.id).length > 0) throw deedGoesOn(disk, peer.name, holder)
}
