// The transport drivers that plugins offered, by URL scheme. A driver of another contract version is refused by name.

import { Refusal } from '../disk/refusal.ts'
import { contractVersion, type StreamTransport, type TransportDriver } from '../transport/index.ts'

export class Drivers {
  readonly #byScheme = new Map<string, TransportDriver>()

  constructor(offered: readonly unknown[]) {
    for (const driver of offered.flat()) {
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
    const scheme = address.protocol.replace(/:$/, '')
    const driver = this.#byScheme.get(scheme)
    if (driver?.kind === 'stream') return driver
    throw new Refusal('transport-unknown', `no transport plugin carries streams over ${scheme}://`, {
      next: `Known schemes: ${this.schemes.join(', ') || 'none'}. vmstore plugins shows what is installed.`,
    })
  }

  #add(scheme: string, driver: TransportDriver): void {
    if (driver.contractVersion !== contractVersion) {
      const message = `the transport ${scheme} keeps contract version ${driver.contractVersion}; this vmstore has version ${contractVersion}`
      throw new Refusal('plugin-version', message, { exit: 1, next: 'Install a version of the plugin that matches.' })
    }
    if (this.#byScheme.has(scheme))
      throw new Refusal('plugin-twice', `two plugins offer the transport ${scheme}`, { exit: 1 })
    this.#byScheme.set(scheme, driver)
  }
}

function isDriver(value: unknown): value is TransportDriver {
  if (typeof value !== 'object' || value === null) return false
  const { kind, schemes, contractVersion: version } = value as Partial<TransportDriver>
  return (kind === 'stream' || kind === 'object') && Array.isArray(schemes) && typeof version === 'number'
}
