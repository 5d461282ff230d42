// The keys of this site, and of the other one, in tests of a migration; and what they sign for each other.

import type { Deed, DeedEntry } from '../../src/deed/entries.ts'
import { signAdopted, signGiven } from '../../src/deed/signing.ts'
import type { Acquisition } from '../../src/migration/counterpart.ts'
import type { Supersession } from '../../src/migration/supersession.ts'
import { at, keyOf } from '../deed/sites.ts'

export const [ourKey, theirKey] = [keyOf('here'), keyOf('there')] as const

/** For the services of a course. */
export const keys = {
  key: ourKey,
  siteOf: (fingerprint: string) => (fingerprint === theirKey.fingerprint ? 'there' : 'here'),
}

/** Of a disk that the other site has, in its generation; and the entry by which it gives it to this one. */
export const theirs = (disk: string, generation = 1): Deed => signAdopted(theirKey, disk, generation, at)

export function givenHere(offered: Deed, move: string): DeedEntry {
  return signGiven(theirKey, offered, { to: ourKey.fingerprint, toSite: 'here', move }, at).at(-1)!
}

/** Of what is asked, given for a move to this site, from the deeds that it was offered with. */
export const grantedDisks = (asked: Acquisition, move: string, offered: (disk: string) => Deed) =>
  asked.disks.map((each) => ({ ...each, given: givenHere(offered(each.disk), move), powerLoss: null }))

export const elsewhere = (generation: number, owner: string): Supersession => ({
  generation,
  owner,
  deed: null,
  rival: null,
})
