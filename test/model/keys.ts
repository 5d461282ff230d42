// The keys of simulated sites. A site is called by its name; as a peer it is known by the fingerprint of its key, as real ones are.

import { generateKeyPairSync } from 'node:crypto'
import { generationOf, holderOf, standingOf } from '../../src/deed/deed.ts'
import type { Deed } from '../../src/deed/entries.ts'
import { type SigningKey, signingKey } from '../../src/deed/keys.ts'
import { signGiven, signTakenBack } from '../../src/deed/signing.ts'

const at = '2026-01-01T00:00:00.000Z'
const keys = new Map<string, SigningKey>()
const names = new Map<string, string>()

/** Made once a process: no number of a run depends on it. */
export function keyOf(site: string): SigningKey {
  const known = keys.get(site)
  if (known) return known
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
  const key = signingKey(privateKey.export({ type: 'pkcs8', format: 'pem' }).toString())
  keys.set(site, key)
  names.set(key.fingerprint, site)
  return key
}

/** Of a site's name, or of what is an id already. */
export function peerIdOf(site: string): string {
  return names.has(site) ? site : keyOf(site).fingerprint
}

export function siteOf(peerId: string): string {
  return names.get(peerId) ?? peerId
}

/**
 * What `deed` becomes when the disk goes on to a site in a generation: taken back by whoever had given it last, if that is the
 * one and the generation follows; else given on, over others if that takes more than one step.
 */
export function goneOn(deed: Deed, generation: number, site: string): Deed {
  const { given } = standingOf(deed)
  const to = keyOf(site)
  if (given?.by === to.publicKey && generation === generationOf(deed) + 1) return signTakenBack(to, deed, 'lost', at)
  let gone = deed
  while (generationOf(gone) < generation) {
    const isLast = generationOf(gone) + 1 === generation
    const next = isLast ? to : keyOf('D')
    const gift = { to: next.fingerprint, toSite: isLast ? site : 'D', move: '00000000-0000-4000-8000-000009999999' }
    gone = signGiven(keyOf(siteOf(holderOf(gone))), gone, gift, at)
  }
  return gone
}
