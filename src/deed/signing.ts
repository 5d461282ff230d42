// Makes the entries of a deed: each is signed with this site's key, and is one that may follow.
//
// What always holds: nothing is signed that `verifyDeed` would not take. What becomes of an entry is the caller's business:
// it goes on record before anybody learns of it, and what was recorded once is not signed anew.

import { DeedError, fault, maximumEntries, standingOf } from './deed.ts'
import { canonicalBytes, type Deed, type DeedEntry, entryShape, type Unsigned } from './entries.ts'
import { type SigningKey, signBytes } from './keys.ts'

/** A new disk's. `at`: time of day. */
export function signMade(key: SigningKey, disk: string, at: string): Deed {
  return signed(key, undefined, { kind: 'made', disk, generation: 1, at, by: key.publicKey, previous: null })
}

/** Of a disk from before deeds, as it is on record. `from`: fingerprint of who gave it, and has not let it go yet. */
export function signAdopted(key: SigningKey, disk: string, generation: number, at: string, from?: string): Deed {
  const giver = from === undefined ? {} : { from }
  return signed(key, undefined, { kind: 'adopted', disk, generation, at, by: key.publicKey, previous: null, ...giver })
}

export interface Gift {
  /** Fingerprint. */
  readonly to: string
  /** Its name, for people. */
  readonly toSite: string
  /** The migration. */
  readonly move: string
}

/** @throws DeedError when the key does not hold the disk */
export function signGiven(key: SigningKey, deed: Deed, { to, toSite, move }: Gift, at: string): Deed {
  const { head, generation } = standingOf(deed)
  const facts = { at, by: key.publicKey, previous: head, to, toSite, move }
  return signed(key, deed, { kind: 'given', disk: deed[0]!.disk, generation: generation + 1, ...facts })
}

/** `word`: the operator's. @throws DeedError when the key has not given what the deed ends with, or has let it go */
export function signTakenBack(key: SigningKey, deed: Deed, word: string, at: string): Deed {
  const { head, generation } = standingOf(deed)
  const facts = { at, by: key.publicKey, previous: head, undoes: head, word }
  return signed(key, deed, { kind: 'taken-back', disk: deed[0]!.disk, generation: generation + 1, ...facts })
}

/** @throws DeedError when the key has not given what the deed ends with */
export function signReleased(key: SigningKey, deed: Deed, at: string): Deed {
  const { head, generation } = standingOf(deed)
  const facts = { at, by: key.publicKey, previous: head }
  return signed(key, deed, { kind: 'released', disk: deed[0]!.disk, generation, ...facts })
}

/** `to`: fingerprint of the new key of the same site. @throws DeedError when the key does not hold the disk */
export function signRekeyed(key: SigningKey, deed: Deed, to: string, at: string): Deed {
  const { head, generation } = standingOf(deed)
  const facts = { at, by: key.publicKey, previous: head, to }
  return signed(key, deed, { kind: 'rekeyed', disk: deed[0]!.disk, generation, ...facts })
}

function signed(key: SigningKey, deed: Deed | undefined, unsigned: Unsigned): Deed {
  const entry = { ...unsigned, signature: signBytes(key, canonicalBytes(unsigned)) } as DeedEntry
  const [issue] = entryShape.safeParse(entry).error?.issues ?? []
  const wrong =
    issue === undefined
      ? fault(deed && standingOf(deed), entry, deed ? deed[0]!.disk : entry.disk)
      : `${issue.path.join('.')}: ${issue.message}`
  if (wrong !== undefined) throw new DeedError(`${entry.kind} cannot be signed: ${wrong}`, deed?.length)
  if (deed && deed.length >= maximumEntries)
    throw new DeedError(`${entry.kind} cannot be signed: the deed has ${deed.length} entries, as many as one may have`)
  return [...(deed ?? []), entry]
}
