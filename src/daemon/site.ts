// The site as its operators see it: answers the control API from the disks, the peers and the migrations.

import type { Service, ServiceOf } from '../control/service.ts'
import type { CountView, SiteView, StatusView } from '../control/types.ts'
import type { Disks } from '../disk/disks.ts'
import type { Migrations } from '../migration/site/migrations.ts'
import type { Files } from '../store/files.ts'
import type { Links } from './links.ts'
import type { PeerBook } from './peer-book.ts'
import { LocalDisks } from './site-disks.ts'
import { LocalMigrations } from './site-migrations.ts'
import { LocalPeers } from './site-peers.ts'
import type { Naming } from './views.ts'

export interface SiteParts {
  readonly view: SiteView
  readonly disks: Disks
  readonly disksFolder: string
  readonly files: Files
  readonly migrations: Migrations
  readonly book: PeerBook
  readonly links: Links
  /** Connections of NBD clients that were refused. */
  readonly refusedConnections: () => CountView | null
}

export class LocalSite implements Service {
  readonly site: ServiceOf<'site'>
  readonly disks: LocalDisks
  readonly peers: LocalPeers
  readonly migrations: LocalMigrations

  constructor(parts: SiteParts) {
    const { view, book, links } = parts
    const naming: Naming = {
      ownSite: view.id,
      siteName: (site) => (site === view.id ? 'this site' : (book.bySite(site)?.name ?? site)),
      peerName: (id) => book.get(id)?.name ?? id,
      isConnected: (id) => links.hub.connected(id),
      link: (id) => links.hub.facts(id),
    }
    const shared = { ...parts, siteId: view.id, naming }
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
