// Deeds between two sites: had from a peer, compared with what is known here, and followed by what is given.
//
// What always holds: a deed from a peer was verified before anybody sees it. What it says counts; that it was said does not.

import type { Clock } from '../block/clock.ts'
import { DeedError, followedBy, generationOf, headOf, holderOf, verifyDeedInTurns } from '../deed/deed.ts'
import type { Deed, DeedEntry } from '../deed/entries.ts'
import { relate } from '../deed/relation.ts'
import { PeerRefusal } from '../link/channel.ts'
import type { SiteDesk } from './counterpart.ts'
import { mayAskAgain, retryDelayMs } from './retries.ts'

/** There is no deed of that disk, or none that this site may see. */
export const deedUnknownCode = 'deed-unknown'

/** The deed of a disk at another site; `head`: the one that ends with this entry. @throws LinkError, PeerRefusal, DeedError */
export async function askDeed(
  there: Pick<SiteDesk, 'deed'>,
  disk: string,
  { clock, head = null, signal }: { clock: Clock; head?: string | null; signal: AbortSignal },
): Promise<Deed> {
  const deed = await verifyDeedInTurns(await there.deed(disk, head, signal), () => clock.turn())
  if (deed[0]!.disk !== disk) throw new DeedError(`it is of disk ${deed[0]!.disk}, and that of ${disk} was asked for`)
  if (head !== null && headOf(deed) !== head) throw new DeedError('it does not end with the entry that was asked for')
  return deed
}

/** As `askDeed`, again and again until it is answered. undefined: it has none, or none that is one. Rejects when `signal` aborts. */
export async function askDeedUntilAnswered(
  there: Pick<SiteDesk, 'deed'>,
  disk: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<Deed | undefined> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await askDeed(there, disk, { clock, signal })
    } catch (error) {
      signal.throwIfAborted()
      if (!mayAskAgain(error)) {
        if (error instanceof DeedError || error instanceof PeerRefusal) return undefined
        throw error
      }
      await clock.sleep(retryDelayMs(attempt), signal)
    }
  }
}

export interface OfferedBy {
  readonly name: string
  readonly peerId: string
  readonly generation: number
  /** What this site knows of the disk. */
  readonly known: Deed | null
}

/** Looks that the peer holds what it offers, and that what it holds is not older than what is known here. @throws PeerRefusal */
export function checkOffered(deed: Deed, { name, peerId, generation, known }: OfferedBy): void {
  if (holderOf(deed) !== peerId)
    throw new PeerRefusal(
      'deed-of-other',
      `the deed of ${name} does not say that it belongs to the site that offers it`,
    )
  if (generationOf(deed) !== generation)
    throw new PeerRefusal(
      'deed-generation',
      `the deed of ${name} is of generation ${generationOf(deed)}, not ${generation}`,
    )
  if (known === null) return
  const relation = relate(known, deed)
  if (relation.kind === 'same' || relation.kind === 'continues') return
  if (relation.kind === 'fork' && relation.wins === 'theirs') return
  const why = {
    beginning: 'is older than what is known of the disk there',
    unrelated: 'has nothing in common with what is known of the disk there',
    fork: 'forks from what is known of the disk there',
  }[relation.kind]
  throw new PeerRefusal(`deed-${relation.kind}`, `the deed of ${name} ${why}`)
}

export interface GivenTo {
  readonly name: string
  /** Fingerprint of this site. */
  readonly key: string
  readonly migration: string
  readonly generation: number
}

/** The deed by which the disk is this site's: the offered one, followed by what the source gave. @throws PeerRefusal */
export function deedOfGrant(offered: Deed, entry: DeedEntry, { name, key, migration, generation }: GivenTo): Deed {
  const refuse = (why: string) =>
    new PeerRefusal('deed-not-given', `the source's grant of ${name} does not count: ${why}`)
  let deed: Deed
  try {
    deed = followedBy(offered, entry)
  } catch (error) {
    if (error instanceof DeedError) throw refuse(error.message)
    throw error
  }
  if (entry.kind !== 'given') throw refuse(`it is ${entry.kind}, and nothing given`)
  if (entry.to !== key) throw refuse('it is given to another key than that of this site')
  if (entry.move !== migration) throw refuse(`it is given for migration ${entry.move}`)
  if (entry.generation !== generation) throw refuse(`it is given in generation ${entry.generation}`)
  return deed
}

/** What a deed was before it was given to `key` for that migration, if it ends with that. */
export function beforeGrant(deed: Deed, key: string, migration: string): Deed {
  const last = deed.at(-1)!
  return last.kind === 'given' && last.to === key && last.move === migration ? deed.slice(0, -1) : deed
}

/** With the giver's word that it has let the disk go, if that follows; else as it is: it takes nothing from whoever has it. */
export function withRelease(deed: Deed | null, released: readonly DeedEntry[]): Deed | null {
  const entry = deed && released.find((each) => each.kind === 'released' && each.previous === headOf(deed))
  if (!deed || !entry) return deed
  try {
    return followedBy(deed, entry)
  } catch {
    return deed
  }
}

/** The entries by which disks were let go in a migration, as their deeds have them. */
export function releasesOf(deeds: readonly (Deed | null | undefined)[], migration: string): readonly DeedEntry[] {
  return deeds.flatMap((deed) => {
    const at = deed?.findIndex((entry) => entry.kind === 'given' && entry.move === migration) ?? -1
    const entry = at < 0 ? undefined : deed![at + 1]
    return entry?.kind === 'released' ? [entry] : []
  })
}
