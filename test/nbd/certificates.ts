// Certificates for tests, made in this process: an authority, what it signs, and what it takes back; and folders of files as
// QEMU and libvirt lay them out.

import { webcrypto } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import 'reflect-metadata'
import * as x509 from '@peculiar/x509'

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const dayMs = 86_400_000

export interface Issued {
  readonly certificate: string
  readonly key: string
  readonly serialNumber: string
}

export interface IssueOptions {
  readonly hosts?: readonly string[]
  readonly purpose?: 'server' | 'client'
  /** Relative to now. */
  readonly fromDays?: number
  readonly untilDays?: number
}

const purposes = { server: '1.3.6.1.5.5.7.3.1', client: '1.3.6.1.5.5.7.3.2' } as const
const after = (days: number): Date => new Date(Date.now() + days * dayMs)

export class Authority {
  readonly certificate: string
  readonly #name: string
  readonly #keys: webcrypto.CryptoKeyPair
  #serial = 1

  private constructor(name: string, keys: webcrypto.CryptoKeyPair, certificate: string) {
    this.#name = `CN=${name}`
    this.#keys = keys
    this.certificate = certificate
  }

  static async make(name = 'test authority'): Promise<Authority> {
    const keys = await newKeys()
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      name: `CN=${name}`,
      serialNumber: '01',
      notBefore: after(-1),
      notAfter: after(2),
      keys,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      ],
    })
    return new Authority(name, keys, `${certificate.toString('pem')}\n`)
  }

  async issue(name: string, options: IssueOptions = {}): Promise<Issued> {
    const { hosts = [], purpose, fromDays = -1, untilDays = 1 } = options
    const keys = await newKeys()
    const serialNumber = (++this.#serial).toString(16).padStart(2, '0')
    const certificate = await x509.X509CertificateGenerator.create({
      subject: `CN=${name}`,
      issuer: this.#name,
      serialNumber,
      notBefore: after(fromDays),
      notAfter: after(untilDays),
      publicKey: keys.publicKey,
      signingKey: this.#keys.privateKey,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        ...(purpose ? [new x509.ExtendedKeyUsageExtension([purposes[purpose]])] : []),
        ...(hosts.length > 0
          ? [
              new x509.SubjectAlternativeNameExtension(
                hosts.map((value) => ({ type: /^[0-9.]+$|:/.test(value) ? 'ip' : 'dns', value }) as const),
              ),
            ]
          : []),
      ],
    })
    const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey))
    const key = x509.PemConverter.encode(der, 'PRIVATE KEY')
    return { certificate: `${certificate.toString('pem')}\n`, key: `${key}\n`, serialNumber }
  }

  async revocationList(...revoked: readonly Issued[]): Promise<string> {
    const list = await x509.X509CrlGenerator.create({
      issuer: this.#name,
      thisUpdate: after(-1),
      nextUpdate: after(1),
      signingAlgorithm: algorithm,
      signingKey: this.#keys.privateKey,
      entries: revoked.map(({ serialNumber }) => ({ serialNumber, revocationDate: after(-1) })),
    })
    return `${x509.PemConverter.encode(list.rawData, 'X509 CRL')}\n`
  }
}

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
}

export interface FolderContent {
  readonly authority?: string
  readonly revocations?: string
  readonly server?: Issued
  readonly client?: Issued
  /** user:hex lines. */
  readonly keys?: string
}

/** Writes what is given, under QEMU's names; keys are for their owner alone. */
export function layOut(folder: string, content: FolderContent): string {
  mkdirSync(folder, { recursive: true })
  const write = (name: string, text: string | undefined, mode = 0o644): void => {
    if (text !== undefined) writeFileSync(join(folder, name), text, { mode })
  }
  write('ca-cert.pem', content.authority)
  write('ca-crl.pem', content.revocations)
  write('server-cert.pem', content.server?.certificate)
  write('server-key.pem', content.server?.key, 0o600)
  write('client-cert.pem', content.client?.certificate)
  write('client-key.pem', content.client?.key, 0o600)
  write('keys.psk', content.keys, 0o600)
  return folder
}
