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

/** One way in: who may be there at once, and who was sent away since the daemon started. */
export interface DoorView {
  readonly kind: 'nbd' | 'peer' | 'control'
  /** A URI, or the path of the control socket, whose connections may become ones of NBD. */
  readonly address: string
  /** Clients that use a disk; null for peers, who are known by their keys. */
  readonly sessions: { readonly now: number; readonly most: number } | null
  /** Connections that are in negotiation: nobody knows yet who they are. */
  readonly newcomers: { readonly now: number; readonly most: number; readonly mostOfOneAddress: number }
  /** For there were as many sessions as may be; or null. */
  readonly refused: CountView | null
  /** Newcomers that made room for newer ones. */
  readonly pushedOut: CountView | null
  /** Newcomers whose first byte did not come in time. */
  readonly silent: CountView | null
  /** Newcomers whose negotiation took too long. */
  readonly slow: CountView | null
}

/** Of all doors. */
export interface DeadlinesView {
  /** For the first byte of a newcomer. */
  readonly firstByteSeconds: number
  /** For its negotiation as a whole. */
  readonly negotiationSeconds: number
  /** For a host to acknowledge what was sent; null: as long as the system lets it. */
  readonly deadHostSeconds: number | null
}

export interface StatusView {
  readonly site: SiteView
  readonly doors: readonly DoorView[]
  readonly deadlines: DeadlinesView
  /** Connections of NBD clients that were refused since the daemon started, most often for there were too many; or null. */
  readonly refusedConnections: CountView | null
  readonly disks: readonly DiskView[]
  readonly peers: readonly PeerView[]
  readonly migrations: readonly MigrationView[]
}
