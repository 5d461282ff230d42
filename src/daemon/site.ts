// The site as its operators see it: answers the control API from the disks, the peers and the migrations.

import type { EventBus } from '../control/event-bus.ts'
import type { Service, ServiceOf } from '../control/service.ts'
import type { CountView, SiteView, StatusView } from '../control/types.ts'
import type { Disks } from '../disk/disks.ts'
import type { Migrations } from '../migration/site/migrations.ts'
import type { Files } from '../store/files.ts'
import type { KeyRenewal } from './key-renewal.ts'
import type { Links } from './links.ts'
import type { OwnIdentity } from './own-identity.ts'
import type { PeerBook } from './peer-book.ts'
import { LocalDisks } from './site-disks.ts'
import { LocalMigrations } from './site-migrations.ts'
import { LocalPeers } from './site-peers.ts'
import type { Naming } from './views.ts'

export interface SiteParts {
  /** As it is now. */
  view(): SiteView
  /** Who it is. */
  readonly own: OwnIdentity
  readonly disks: Disks
  readonly disksFolder: string
  readonly files: Files
  readonly migrations: Migrations
  readonly book: PeerBook
  readonly links: Links
  readonly naming: Naming
  /** Where the site tells what happens. */
  readonly bus: EventBus
  /** Gives this site another key. */
  readonly renewal: KeyRenewal
  /** Connections of NBD clients that were refused. */
  readonly refusedConnections: () => CountView | null
}

export class LocalSite implements Service {
  readonly site: ServiceOf<'site'>
  readonly disks: LocalDisks
  readonly peers: LocalPeers
  readonly migrations: LocalMigrations

  constructor(parts: SiteParts) {
    this.disks = new LocalDisks(parts)
    this.peers = new LocalPeers(parts)
    this.migrations = new LocalMigrations(parts)
    this.site = { describe: () => parts.view(), status: () => this.#status(parts) }
  }

  async #status({ view, refusedConnections }: SiteParts): Promise<StatusView> {
    const disks = await this.disks.list()
    const [peers, migrations] = [this.peers.list(), this.migrations.list()]
    return { site: view(), refusedConnections: refusedConnections(), disks, peers, migrations }
  }
}
