// Sites that sign deeds, for tests.

import { generateKeyPairSync } from 'node:crypto'
import type { Deed } from '../../src/deed/entries.ts'
import { type SigningKey, signingKey } from '../../src/deed/keys.ts'
import { signGiven, signMade } from '../../src/deed/signing.ts'

export const disk = '33333333-3333-4333-8333-333333333333'
export const move = '55555555-5555-4555-8555-555555555555'
export const at = '2026-01-01T00:00:00.000Z'

export function newKey(): SigningKey {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
  return signingKey(privateKey.export({ type: 'pkcs8', format: 'pem' }).toString())
}

const keys = new Map<string, SigningKey>()

/** The key of a site, by its name: the same each time. */
export function keyOf(name: string): SigningKey {
  const key = keys.get(name) ?? newKey()
  keys.set(name, key)
  return key
}

export const [a, b, c] = [keyOf('A'), keyOf('B'), keyOf('C')] as const

export const made = (key = a): Deed => signMade(key, disk, at)
export const given = (deed: Deed, from: SigningKey, to: SigningKey): Deed =>
  signGiven(from, deed, { to: to.fingerprint, toSite: 'site', move }, at)
