// What one side shows and believes in TLS, read from a folder that is laid out as QEMU and libvirt lay it out: ca-cert.pem,
// ca-crl.pem, server-cert.pem and server-key.pem (or client-…), and keys.psk, which is read as GnuTLS reads it.
// Always: what is returned has been tried, so that a file that TLS cannot use is found here, with a sentence that names it,
// and not at somebody's handshake. No message has a key in it.

import { isUtf8 } from 'node:buffer'
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { createSecureContext, DEFAULT_CIPHERS } from 'node:tls'

/** Far above any real file; a wrong path must not fill the memory. */
const fileMaxBytes = 1024 * 1024
/** OpenSSL's bounds (PSK_MAX_IDENTITY_LEN, PSK_MAX_PSK_LEN). */
const identityMaxBytes = 256
const presharedKeyMaxBytes = 512

/**
 * Preshared keys with forward secrecy, which Node leaves out unless they are named. In TLS 1.3 the suites with SHA-256 come
 * first: a preshared key goes with no other hash, and a certificate would be taken in its place.
 */
export const onlyPresharedKeyCiphers = [
  'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384',
  'ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384:DHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES128-GCM-SHA256',
].join(':')

/** And what Node allows. */
export const presharedKeyCiphers = [
  onlyPresharedKeyCiphers,
  ...DEFAULT_CIPHERS.split(':').filter((cipher) => cipher !== '!PSK' && !cipher.startsWith('TLS_')),
  '!kPSK',
  '!kRSAPSK',
].join(':')

export class NbdTlsError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'NbdTlsError'
  }
}

export interface TlsCredentials {
  /** The chain and its key, as PEM. */
  readonly own: { readonly cert: Buffer; readonly key: Buffer } | undefined
  /** Certificates of the authorities that are believed, as PEM. */
  readonly authorities: Buffer | undefined
  readonly revocations: Buffer | undefined
  /** Preshared keys by user. */
  readonly keys: ReadonlyMap<string, Buffer>
  /** What works but will disappoint, in sentences. */
  readonly warnings: readonly string[]
}

/** OpenSSL's word for what went wrong, without its source lines. */
export function tlsReason(error: Error): string {
  return (error as { reason?: string }).reason ?? error.message
}

interface File {
  readonly path: string
  readonly bytes: Buffer
  readonly isPublic: boolean
}

/** The files of `side` in `folder`; those that are not there are left out. Throws NbdTlsError. */
export async function readCredentials(
  folder: string,
  side: 'server' | 'client',
  now: Date = new Date(),
): Promise<TlsCredentials> {
  const read = (name: string): Promise<File | undefined> => readFile(join(folder, name))
  const cert = await read(`${side}-cert.pem`)
  const key = await read(`${side}-key.pem`)
  if (cert !== undefined && key === undefined) throw missing(folder, `${side}-key.pem`, `${side}-cert.pem`)
  if (key !== undefined && cert === undefined) throw missing(folder, `${side}-cert.pem`, `${side}-key.pem`)
  const authorities = await read('ca-cert.pem')
  const revocations = await read('ca-crl.pem')
  const keys = await read('keys.psk')
  const warnings = [key, keys].filter((file) => file?.isPublic).map((file) => readableByAll(file!))
  if (cert !== undefined) warnings.push(...checkPair(cert, key!, now))
  if (authorities !== undefined) parseCertificate(authorities)
  if (revocations !== undefined) tryRevocations(revocations)
  return {
    own: cert && { cert: cert.bytes, key: key!.bytes },
    authorities: authorities?.bytes,
    revocations: revocations?.bytes,
    keys: keys === undefined ? new Map() : parsePresharedKeys(keys),
    warnings,
  }
}

/** The keys of one file, for a client that was given it by name. Throws NbdTlsError. */
export async function readPresharedKeys(path: string): Promise<ReadonlyMap<string, Buffer>> {
  const file = await readFile(path)
  if (file === undefined) throw new NbdTlsError(`cannot read ${path}: there is no such file`)
  return parsePresharedKeys(file)
}

async function readFile(path: string): Promise<File | undefined> {
  try {
    await using file = await open(path)
    const status = await file.stat()
    if (!status.isFile()) throw new Error('it is no file')
    if (status.size > fileMaxBytes) throw new Error(`it has over ${fileMaxBytes} bytes`)
    return { path, bytes: await file.readFile(), isPublic: (status.mode & 0o004) !== 0 }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new NbdTlsError(`cannot read ${path}: ${(error as Error).message}`, { cause: error })
  }
}

function missing(folder: string, name: string, partner: string): NbdTlsError {
  return new NbdTlsError(`${folder} has ${partner}, but not ${name}`)
}

function readableByAll({ path }: File): string {
  return `${path} can be read by every user of this host: whoever has it can pass for its owner (chmod o-r)`
}

/** Throws unless the key is the certificate's. Returns warnings. */
function checkPair(cert: File, key: File, now: Date): string[] {
  const certificate = parseCertificate(cert)
  let privateKey: KeyObject
  try {
    privateKey = createPrivateKey(key.bytes)
  } catch (error) {
    throw new NbdTlsError(`${key.path} has no private key in PEM that opens without a passphrase`, { cause: error })
  }
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new NbdTlsError(`the key in ${key.path} is not the key of the certificate in ${cert.path}`)
  }
  try {
    createSecureContext({ cert: cert.bytes, key: key.bytes })
  } catch (error) {
    throw new NbdTlsError(`TLS cannot use ${cert.path}: ${(error as Error).message}`, { cause: error })
  }
  const { validFromDate, validToDate } = certificate
  if (now < validFromDate) return [`the certificate in ${cert.path} is not valid before ${validFromDate.toISOString()}`]
  if (now > validToDate) return [`the certificate in ${cert.path} has expired on ${validToDate.toISOString()}`]
  return []
}

function parseCertificate({ path, bytes }: File): X509Certificate {
  try {
    return new X509Certificate(bytes)
  } catch (error) {
    throw new NbdTlsError(`${path} has no certificate in PEM`, { cause: error })
  }
}

function tryRevocations({ path, bytes }: File): void {
  try {
    createSecureContext({ crl: bytes })
  } catch (error) {
    throw new NbdTlsError(`${path} has no certificate revocation list in PEM`, { cause: error })
  }
}

/** A `user:hex` on each line, or `#hex:hex` with the user's name in hexadecimal. What else begins with # is a comment. */
function parsePresharedKeys({ path, bytes }: File): ReadonlyMap<string, Buffer> {
  const keys = new Map<string, Buffer>()
  for (const [index, ended] of bytes.toString('utf8').split('\n').entries()) {
    const line = ended.trimEnd()
    const where = `line ${index + 1} of ${path}`
    const nameInHex = /^#((?:[0-9a-f]{2})+):/i.exec(line)?.[1]
    if (line === '' || (line.startsWith('#') && nameInHex === undefined)) continue
    const colon = line.lastIndexOf(':')
    const user = nameInHex === undefined ? line.slice(0, Math.max(colon, 0)) : userInHex(nameInHex, where)
    const hex = line.slice(colon + 1)
    const isKey = /^(?:[0-9a-f]{2})+$/i.test(hex) && hex.length <= 2 * presharedKeyMaxBytes
    if (user === '' || Buffer.byteLength(user) > identityMaxBytes || !isKey) {
      throw new NbdTlsError(`${where} is not user:hex, as psktool writes it, nor a comment, which begins with "# "`)
    }
    if (keys.has(user)) throw new NbdTlsError(`${where} names the user ${user} again`)
    keys.set(user, Buffer.from(hex, 'hex'))
  }
  if (keys.size === 0) throw new NbdTlsError(`${path} has no key: it wants a user:hex on each line`)
  return keys
}

/** TLS gives us names as text: a name of other bytes could not be told from another. */
function userInHex(hex: string, where: string): string {
  const bytes = Buffer.from(hex, 'hex')
  if (isUtf8(bytes) && !bytes.includes(0)) return bytes.toString('utf8')
  const comment = 'a line that is meant as a comment begins with "# "'
  throw new NbdTlsError(
    `${where} names in hexadecimal a user whose name is no text, which vmstore cannot tell: ${comment}`,
  )
}
