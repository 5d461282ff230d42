// The site as its operators see it: answers the control API from the disks, the peers and the migrations.

import type { EventBus } from '../control/event-bus.ts'
import type { Service, ServiceOf } from '../control/service.ts'
import type { CountView, SiteView, StatusView } from '../control/types.ts'
import type { SigningKey } from '../deed/keys.ts'
import type { Disks } from '../disk/disks.ts'
import type { Migrations } from '../migration/site/migrations.ts'
import type { Files } from '../store/files.ts'
import type { Links } from './links.ts'
import type { PeerBook } from './peer-book.ts'
import type { PeerGuard } from './peer-guard.ts'
import { LocalDisks } from './site-disks.ts'
import { LocalMigrations } from './site-migrations.ts'
import { LocalPeers } from './site-peers.ts'
import type { Naming } from './views.ts'

export interface SiteParts {
  readonly view: SiteView
  readonly key: SigningKey
  readonly disks: Disks
  readonly disksFolder: string
  readonly files: Files
  readonly migrations: Migrations
  readonly book: PeerBook
  readonly links: Links
  readonly guard: PeerGuard
  readonly naming: Naming
  /** Where the site tells what happens. */
  readonly bus: EventBus
  /** Connections of NBD clients that were refused. */
  readonly refusedConnections: () => CountView | null
}

export class LocalSite implements Service {
  readonly site: ServiceOf<'site'>
  readonly disks: LocalDisks
  readonly peers: LocalPeers
  readonly migrations: LocalMigrations

  constructor(parts: SiteParts) {
    const { view } = parts
    const shared = { ...parts, siteId: view.id }
    this.disks = new LocalDisks(shared)
    this.peers = new LocalPeers(shared)
    this.migrations = new LocalMigrations(shared)
    this.site = { describe: () => view, status: () => this.#status(parts) }
  }

  async #status({ view, refusedConnections }: SiteParts): Promise<StatusView> {
    const disks = await this.disks.list()
    const [peers, migrations] = [this.peers.list(), this.migrations.list()]
    return { site: view, refusedConnections: refusedConnections(), disks, peers, migrations }
  }
}
