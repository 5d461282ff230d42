// The keys of sites, as deeds know them: who signs, and whether a signature is of a key. ECDSA P-256 with SHA-256.
//
// What always holds: a key has one spelling, so that it has one fingerprint.

import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'

/** This site's, for what it signs. */
export interface SigningKey {
  readonly privateKey: KeyObject
  /** SPKI in DER, in base64. */
  readonly publicKey: string
  /** Hex SHA-256 of the public key: as peers pin it. */
  readonly fingerprint: string
}

export function signingKey(privateKeyPem: string): SigningKey {
  const privateKey = createPrivateKey(privateKeyPem)
  const der = createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
  return { privateKey, publicKey: der.toString('base64'), fingerprint: sha256(der) }
}

export function signBytes(key: SigningKey, bytes: Uint8Array): string {
  return sign('sha256', bytes, key.privateKey).toString('base64')
}

/** Of every ECDSA P-256 key whose point is not compressed, before the point's 64 bytes. */
const spkiHead = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex')
const spkiBytes = spkiHead.length + 64

/** Keys that were read before: those of a chain are few. */
const known = new Map<string, KeyObject>()
const knownLimit = 256

/** Of a public key as a deed has it; false also when it is no such key, or is spelt in another way. */
export function isSignedBy(publicKey: string, bytes: Uint8Array, signature: string): boolean {
  const key = read(publicKey)
  if (!key) return false
  try {
    return verify('sha256', bytes, key, Buffer.from(signature, 'base64'))
  } catch {
    return false
  }
}

export function fingerprintOfKey(publicKey: string): string {
  return sha256(Buffer.from(publicKey, 'base64'))
}

function read(publicKey: string): KeyObject | undefined {
  const before = known.get(publicKey)
  if (before) return before
  try {
    const der = Buffer.from(publicKey, 'base64')
    const isOne = der.length === spkiBytes && der.subarray(0, spkiHead.length).equals(spkiHead)
    if (!isOne || der.toString('base64') !== publicKey) return undefined
    const key = createPublicKey({ key: der, format: 'der', type: 'spki' })
    if (known.size >= knownLimit) known.clear()
    known.set(publicKey, key)
    return key
  } catch {
    return undefined
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
