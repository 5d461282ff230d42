// Keeps objects in S3-compatible storage: s3://bucket/prefix. The SDK is loaded by whoever opens a store: every command asks
// what transports there are, and few of them need it.

import { contractVersion, type ObjectStore, type ObjectTransport, type TransportOptions } from 'vmstore/transport'
import { placeOf, settingNames, settingsOf } from './settings.ts'

export class S3Transport implements ObjectTransport {
  readonly contractVersion = contractVersion
  readonly kind = 'object'
  readonly schemes = ['s3']

  async open(address: URL, options: TransportOptions): Promise<ObjectStore> {
    options.signal.throwIfAborted()
    const place = placeOf(address)
    const settings = settingsOf(options.settings)
    const unknown = Object.keys(options.settings).filter((name) => !settingNames.includes(name))
    if (unknown.length > 0) options.log.warn({ unknown }, 'some settings of transports.s3 mean nothing to transport-s3')
    const { S3Store } = await import('./s3-store.ts')
    return await S3Store.open(place, settings, options)
  }
}
