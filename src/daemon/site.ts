// The site as its operators see it: answers the control API from the disks, the peers and the migrations.

import type { EventBus } from '../control/event-bus.ts'
import type { Service, ServiceOf } from '../control/service.ts'
import type { DeadlinesView, SiteView, StatusView } from '../control/types.ts'
import type { Disks } from '../disk/disks.ts'
import type { Migrations } from '../migration/site/migrations.ts'
import type { NbdServer } from '../nbd/server/server.ts'
import type { Files } from '../store/files.ts'
import type { KeyRenewal } from './key-renewal.ts'
import type { Links } from './links.ts'
import type { OwnIdentity } from './own-identity.ts'
import type { PeerBook } from './peer-book.ts'
import type { PeerGuard } from './peer-guard.ts'
import { LocalDisks } from './site-disks.ts'
import { LocalMigrations } from './site-migrations.ts'
import { LocalPeers } from './site-peers.ts'
import { LocalSessions, nbdDoorView, peerDoorView } from './site-sessions.ts'
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
  readonly guard: PeerGuard
  readonly naming: Naming
  /** Where the site tells what happens. */
  readonly bus: EventBus
  readonly nbd: NbdServer
  readonly deadlines: DeadlinesView
  /** Gives this site another key. */
  readonly renewal: KeyRenewal
}

export class LocalSite implements Service {
  readonly site: ServiceOf<'site'>
  readonly disks: LocalDisks
  readonly sessions: LocalSessions
  readonly peers: LocalPeers
  readonly migrations: LocalMigrations

  constructor(parts: SiteParts) {
    this.disks = new LocalDisks(parts)
    this.sessions = new LocalSessions(parts.nbd)
    this.peers = new LocalPeers(parts)
    this.migrations = new LocalMigrations(parts)
    this.site = { describe: () => parts.view(), status: () => this.#status(parts) }
  }

  async #status({ view, nbd, links, deadlines }: SiteParts): Promise<StatusView> {
    const site = view()
    const ofPeers = site.peer === null ? [] : [peerDoorView(site.peer, links.newcomers)]
    const doors = [...nbd.doors.map((door) => nbdDoorView(door, site.control)), ...ofPeers]
    const disks = await this.disks.list()
    const [peers, migrations] = [this.peers.list(), this.migrations.list()]
    return { site, doors, deadlines, refusedConnections: nbd.refused, disks, peers, migrations }
  }
}
