// What a site says of itself.

import type { CountView, DiskView } from './disks.ts'
import type { MigrationView } from './migrations.ts'
import type { PeerView } from './peers.ts'

export interface SiteView {
  readonly id: string
  readonly name: string
  readonly version: string
  readonly fingerprint: string
  readonly nbd: readonly string[]
  readonly peer: string | null
  readonly control: string
  readonly root: string
}

export interface StatusView {
  readonly site: SiteView
  /** Connections of NBD clients that were refused since the daemon started, most often for there were too many; or null. */
  readonly refusedConnections: CountView | null
  readonly disks: readonly DiskView[]
  readonly peers: readonly PeerView[]
  readonly migrations: readonly MigrationView[]
}
