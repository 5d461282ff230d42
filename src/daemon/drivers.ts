// The transport drivers that plugins offered, by URL scheme. A driver of another contract version keeps nobody from starting:
// it is refused by name when an address needs it.

import { Refusal } from '../disk/refusal.ts'
import {
  contractVersion,
  type ObjectTransport,
  type StreamTransport,
  type TransportDriver,
} from '../transport/index.ts'

export class Drivers {
  readonly #byScheme = new Map<string, TransportDriver>()
  /** Schemes of drivers that keep another version of the contract, and which. */
  readonly #otherVersions = new Map<string, number>()

  constructor(offered: readonly unknown[]) {
    for (const driver of offered.flat()) {
      const version = otherVersionOf(driver)
      if (version !== undefined) {
        for (const scheme of schemesOf(driver)) this.#otherVersions.set(scheme, version)
        continue
      }
      if (!isDriver(driver))
        throw new Refusal('plugin-broken', 'a transport plugin offers something that is no driver', { exit: 1 })
      for (const scheme of driver.schemes) this.#add(scheme, driver)
    }
  }

  get schemes(): readonly string[] {
    return [...this.#byScheme.keys()]
  }

  /** @throws Refusal */
  stream(address: URL): StreamTransport {
    const driver = this.#of(address)
    if (driver?.kind === 'stream') return driver
    throw this.#unknown(address, 'carries streams over')
  }

  /** @throws Refusal */
  object(address: URL): ObjectTransport {
    const driver = this.#of(address)
    if (driver?.kind === 'object') return driver
    throw this.#unknown(address, 'keeps objects at')
  }

  #of(address: URL): TransportDriver | undefined {
    const scheme = schemeOf(address)
    const driver = this.#byScheme.get(scheme)
    const version = this.#otherVersions.get(scheme)
    if (driver || version === undefined) return driver
    const message = `the transport ${scheme} keeps contract version ${version}; this vmstore has version ${contractVersion}`
    throw new Refusal('plugin-version', message, { next: 'Install a version of the plugin that matches.' })
  }

  #unknown(address: URL, does: string): Refusal {
    return new Refusal('transport-unknown', `no transport plugin ${does} ${schemeOf(address)}://`, {
      next: `Known schemes: ${this.schemes.join(', ') || 'none'}. vmstore plugins shows what is installed.`,
    })
  }

  #add(scheme: string, driver: TransportDriver): void {
    if (this.#byScheme.has(scheme))
      throw new Refusal('plugin-twice', `two plugins offer the transport ${scheme}`, { exit: 1 })
    this.#byScheme.set(scheme, driver)
  }
}

const schemeOf = (address: URL): string => address.protocol.replace(/:$/, '')

/** What has a version that is not ours may have any shape beside it. */
function otherVersionOf(value: unknown): number | undefined {
  const version = (value as Partial<TransportDriver> | null | undefined)?.contractVersion
  return typeof version === 'number' && version !== contractVersion ? version : undefined
}

function schemesOf(value: unknown): string[] {
  const { schemes } = value as { schemes?: unknown }
  return Array.isArray(schemes) ? schemes.filter((scheme) => typeof scheme === 'string') : []
}

function isDriver(value: unknown): value is TransportDriver {
  if (typeof value !== 'object' || value === null) return false
  const { kind, schemes, contractVersion: version } = value as Partial<TransportDriver>
  return (kind === 'stream' || kind === 'object') && Array.isArray(schemes) && typeof version === 'number'
}
