// The peers of a site as its operators see them: invited, joined, shown, removed.

import type { ServiceOf } from '../control/service.ts'
import type { InviteRequest, InviteView, JoinRequest, PeerView, RekeyRequest, RekeyView } from '../control/types.ts'
import { Refusal } from '../disk/refusal.ts'
import { LinkError } from '../link/channel.ts'
import { diskNames } from '../migration/move.ts'
import type { Migrations } from '../migration/site/migrations.ts'
import { PeerError } from '../peer/identity.ts'
import type { PeerRecord } from '../store/records.ts'
import { TransportError } from '../transport/index.ts'
import type { KeyRenewal } from './key-renewal.ts'
import type { Links } from './links.ts'
import type { PeerBook } from './peer-book.ts'
import { linkView } from './views.ts'

export interface LocalPeersParts {
  readonly book: PeerBook
  readonly links: Links
  readonly migrations: Migrations
  readonly renewal: KeyRenewal
}

export class LocalPeers implements ServiceOf<'peers'> {
  readonly #parts: LocalPeersParts

  constructor(parts: LocalPeersParts) {
    this.#parts = parts
  }

  async invite(request: InviteRequest): Promise<InviteView> {
    const { token, address, expiresAt } = await told(async () => this.#parts.links.invite(request))
    return { token, address, expiresAt: new Date(expiresAt).toISOString() }
  }

  async join(request: JoinRequest, signal: AbortSignal): Promise<PeerView> {
    return this.#peerView(await told(() => this.#parts.links.join(request.token, request.name, signal)))
  }

  list(): PeerView[] {
    return this.#parts.book.all().map((peer) => this.#peerView(peer))
  }

  async remove(name: string): Promise<PeerView> {
    const { book, migrations, links } = this.#parts
    const peer = book.named(name)
    const busy = migrations.courses().find((course) => course.record.peerId === peer.fingerprint)
    if (busy) {
      throw new Refusal(
        'peer-in-use',
        `migration ${busy.id} of ${diskNames(busy.record)} is under way with ${peer.name}`,
        {
          safe: 'Nothing was changed.',
          next: 'Wait for its end, or cancel it.',
        },
      )
    }
    const view = this.#peerView(peer)
    await book.remove(peer)
    links.hub.drop(peer.fingerprint)
    return view
  }

  async rekey(request: RekeyRequest, signal: AbortSignal): Promise<RekeyView> {
    return told(() => this.#parts.renewal.rekey(request, signal))
  }

  #peerView(peer: PeerRecord): PeerView {
    const { name, site, fingerprint, address } = peer
    const { hub } = this.#parts.links
    const link = linkView(hub.facts(fingerprint))
    return { name, id: site, fingerprint, address, connected: hub.connected(fingerprint), link }
  }
}

/** Gives what went wrong with a peer to the operator as a refusal. */
async function told<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const known = error instanceof PeerError || error instanceof LinkError || error instanceof TransportError
    const named = (error as Error).name === 'TransportError'
    if (!known && !named) throw error
    const { code, message } = error as PeerError
    throw new Refusal(code === 'unavailable' ? 'peer-unreachable' : code, message, {
      safe: 'Nothing was changed.',
      cause: error,
    })
  }
}
