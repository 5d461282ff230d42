// What this site calls the others, and how its disks stand.

import type { Disks } from '../disk/disks.ts'
import type { PeerFacts } from '../migration/site/services.ts'
import type { Links } from './links.ts'
import { type PeerBook, peerFacts } from './peer-book.ts'
import { type Naming, stateOf } from './views.ts'

interface OwnNames {
  readonly siteId: string
  readonly fingerprint: string
}

/** `own`: this site, whose id is another once its key was renewed. */
export function namingOf(own: OwnNames, book: PeerBook, links: Links, disks: Disks): Naming {
  return {
    get ownSite() {
      return own.siteId
    },
    siteName: (site) => (site === own.siteId ? 'this site' : (book.bySite(site)?.name ?? site)),
    peerName: (id) => book.get(id)?.name ?? id,
    keyName: (fingerprint) => (fingerprint === own.fingerprint ? 'this site' : book.get(fingerprint)?.name),
    isConnected: (id) => links.hub.connected(id),
    link: (id) => links.hub.facts(id),
    diskState: (id) => {
      const disk = disks.get(id)
      return disk ? stateOf(disk) : null
    },
  }
}

/** A peer that was removed is known by its id. */
export function peerOf(book: PeerBook, id: string): PeerFacts {
  const peer = book.get(id)
  return peer ? peerFacts(peer) : { id, site: 'unknown', name: id }
}
