// What a site says to its peers before it renews its key: the next key's fingerprint, signed by the present key. A peer that
// has pinned the present key pins the next one besides on this word, and on no other.
//
// signature = ECDSA P-256 over SHA-256 of "vmstore-rekey-1\n" by "\n" to "\n" at "\n", in DER, base64

import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'
import { z } from 'zod'
import { fingerprintOf, fingerprintPattern, type Identity, PeerError } from './identity.ts'

const base64 = z.base64().max(1024)

export const renewalStatement = z.object({
  /** The present key, SPKI in DER. */
  by: base64,
  /** The fingerprint of the next one. */
  to: z.string().regex(fingerprintPattern),
  /** Time of day, for people. */
  at: z.iso.datetime().max(40),
  signature: base64,
})
export type RenewalStatement = z.infer<typeof renewalStatement>

function signedBytes({ by, to, at }: Omit<RenewalStatement, 'signature'>): Buffer {
  return Buffer.from(`vmstore-rekey-1\n${by}\n${to}\n${at}\n`)
}

export function stateRenewal(identity: Identity, to: string, at: Date): RenewalStatement {
  const key = createPrivateKey(identity.privateKeyPem)
  const by = createPublicKey(key).export({ type: 'spki', format: 'der' }).toString('base64')
  const said = { by, to, at: at.toISOString() }
  return { ...said, signature: sign('sha256', signedBytes(said), key).toString('base64') }
}

/** The next key that a peer names, whose present one is `fingerprint`. @throws PeerError `rekey-invalid` */
export function nextKeyIn(said: unknown, fingerprint: string): string {
  const statement = renewalStatement.safeParse(said)
  if (!statement.success) throw invalid('it cannot be understood')
  const { by, to, signature } = statement.data
  try {
    const key = createPublicKey({ key: Buffer.from(by, 'base64'), format: 'der', type: 'spki' })
    if (fingerprintOf(key) !== fingerprint) throw invalid('it is of another key than the one that is pinned')
    if (!verify('sha256', signedBytes(statement.data), key, Buffer.from(signature, 'base64')))
      throw invalid('its signature is not that of the present key')
  } catch (error) {
    throw error instanceof PeerError ? error : invalid('its key cannot be read', error)
  }
  if (to === fingerprint) throw invalid('the next key is the present one')
  return to
}

function invalid(why: string, cause?: unknown): PeerError {
  return new PeerError('rekey-invalid', `a statement of a new key does not count: ${why}`, { cause })
}
