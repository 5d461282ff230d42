// Who this site is: a key (ECDSA P-256) and a certificate that it signed for itself. Peers pin the key; the certificate is only
// its envelope, so neither names nor dates in it decide anything. What is there is never replaced: a damaged file is an error.

import { createHash, createPrivateKey, type KeyObject, webcrypto, X509Certificate } from 'node:crypto'
import { link, mkdir, open, readFile, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'

export interface Identity {
  readonly privateKeyPem: string
  readonly certificatePem: string
  /** SHA-256 of the public key's SPKI, 64 hexadecimal digits. */
  readonly fingerprint: string
  /** `site-` and the first 16 digits of the fingerprint. */
  readonly siteId: string
}

export const fingerprintPattern = /^[0-9a-f]{64}$/
export const siteIdPattern = /^site-[0-9a-f]{16}$/

/** The world's fault, as a sentence: a damaged file, a refused peer. */
export class PeerError extends Error {
  readonly code: string
  /** What to do next, in a sentence. */
  readonly next: string | undefined
  constructor(code: string, message: string, options?: ErrorOptions & { next?: string }) {
    super(message, options)
    this.name = 'PeerError'
    this.code = code
    this.next = options?.next
  }
}

export function fingerprintOf(publicKey: KeyObject): string {
  return createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex')
}

export function siteIdOf(fingerprint: string): string {
  return `site-${fingerprint.slice(0, 16)}`
}

/** Where the identity of a site lies. */
export function identityPaths(folder: string): { readonly key: string; readonly certificate: string } {
  return { key: join(folder, 'identity.key'), certificate: join(folder, 'identity.crt') }
}

/** Makes the identity when `folder` has none. Rejects with PeerError when what is there cannot be used. */
export async function loadIdentity(folder: string): Promise<Identity> {
  const { key: keyPath, certificate: certificatePath } = identityPaths(folder)
  await checkMode(keyPath)
  const found = await Promise.all([readIfThere(keyPath), readIfThere(certificatePath)])
  if (found[1] !== undefined && found[0] === undefined) {
    throw new PeerError(
      'identity-damaged',
      `${certificatePath} is there but its key ${keyPath} is not: restore the key`,
    )
  }
  if (found[0] !== undefined && found[1] !== undefined) return checked(found[0], found[1], keyPath, certificatePath)

  // The key is the identity: a crash between the two files leaves a key, which gets its certificate at the next start.
  await mkdir(folder, { recursive: true, mode: 0o700 })
  let keyPem = found[0]
  if (keyPem === undefined) {
    keyPem = await newKey()
    await createDurably(folder, keyPath, keyPem, 0o600)
  }
  const certificatePem = await certify(parsedKey(keyPem, keyPath))
  await createDurably(folder, certificatePath, certificatePem, 0o644)
  return checked(keyPem, certificatePem, keyPath, certificatePath)
}

/** Whoever has read the key can pose as this site. */
export async function checkMode(keyPath: string): Promise<void> {
  const mode = await stat(keyPath).then(
    (info) => info.mode & 0o777,
    () => 0, // Reading it says what is wrong.
  )
  if ((mode & 0o077) === 0) return
  const octal = mode.toString(8).padStart(4, '0')
  const message = `other users of this host may read the key of this site, ${keyPath} (mode ${octal})`
  const next = `Make it its owner's alone: chmod 600 ${keyPath}. If somebody else may have read it, move it and identity.crt away instead, and pair anew.`
  throw new PeerError('identity-exposed', message, { next })
}

export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new PeerError('identity-unreadable', `${path} cannot be read: ${(error as Error).message}`, { cause: error })
  }
}

function parsedKey(pem: string, path: string): KeyObject {
  let key: KeyObject
  try {
    key = createPrivateKey(pem)
  } catch (error) {
    throw new PeerError('identity-damaged', `${path} holds no private key: restore it from a copy`, { cause: error })
  }
  if (key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1') return key
  throw new PeerError(
    'identity-damaged',
    `${path} holds a key of another kind than ECDSA P-256: restore it from a copy`,
  )
}

function checked(keyPem: string, certificatePem: string, keyPath: string, certificatePath: string): Identity {
  const key = parsedKey(keyPem, keyPath)
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(certificatePem)
  } catch (error) {
    throw new PeerError('identity-damaged', `${certificatePath} holds no certificate: remove it, and it is made anew`, {
      cause: error,
    })
  }
  if (!certificate.checkPrivateKey(key)) {
    throw new PeerError(
      'identity-damaged',
      `${certificatePath} does not belong to ${keyPath}: restore both from one copy`,
    )
  }
  const fingerprint = fingerprintOf(certificate.publicKey)
  return { privateKeyPem: keyPem, certificatePem, fingerprint, siteId: siteIdOf(fingerprint) }
}

/** What a key makes of the site that holds it. `path`: where the key was read. @throws PeerError */
export async function identityOf(keyPem: string, path: string): Promise<Identity> {
  const key = parsedKey(keyPem, path)
  return checked(keyPem, await certify(key), path, path)
}

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

export async function newKey(): Promise<string> {
  const { privateKey } = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', privateKey))
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
    .export({ type: 'pkcs8', format: 'pem' })
    .toString()
}

async function certify(key: KeyObject): Promise<string> {
  await import('reflect-metadata') // @peculiar/x509 needs it of its host.
  const { X509CertificateGenerator } = await import('@peculiar/x509')
  const privateKey = key.toCryptoKey(algorithm, true, ['sign'])
  const { x, y, crv, kty } = key.export({ format: 'jwk' })
  const publicJwk = { x, y, crv, kty } as webcrypto.JsonWebKey
  const publicKey = await webcrypto.subtle.importKey('jwk', publicJwk, algorithm, true, ['verify'])
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: 'CN=vmstore site',
    serialNumber: '01',
    // No clock decides: a host that starts in 1970 or 2100 has the same identity. 9999 is RFC 5280's "no end".
    notBefore: new Date('1970-01-01T00:00:00Z'),
    notAfter: new Date('9999-12-31T23:59:59Z'),
    keys: { privateKey, publicKey },
    signingAlgorithm: algorithm,
  })
  return `${certificate.toString('pem')}\n`
}

/** Whole or not at all, and never over another file: link() fails where rename() would replace. */
export async function createDurably(folder: string, path: string, text: string, mode: number): Promise<void> {
  const temporary = `${path}.${process.pid}.new`
  const file = await open(temporary, 'w', mode)
  try {
    await file.chmod(mode)
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  try {
    await link(temporary, path)
  } finally {
    await unlink(temporary)
  }
  await syncFolder(folder)
}

/** What was made, renamed or removed in it is durable. */
export async function syncFolder(folder: string): Promise<void> {
  const directory = await open(folder, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
