// The peers of a site as its operators see them: invited, joined, shown, removed.

import type { ServiceOf } from '../control/service.ts'
import type {
  AllowRequest,
  InviteRequest,
  InviteView,
  JoinRequest,
  PeerLimitsView,
  PeerView,
  RekeyRequest,
  RekeyView,
  RemovedPeerView,
} from '../control/types.ts'
import type { Disks } from '../disk/disks.ts'
import { Refusal } from '../disk/refusal.ts'
import { LinkError } from '../link/channel.ts'
import { diskNames } from '../migration/move.ts'
import { usualLimits } from '../migration/peer-rights.ts'
import type { Migrations } from '../migration/site/migrations.ts'
import { PeerError } from '../peer/identity.ts'
import type { PeerLimits, PeerRecord } from '../store/records.ts'
import { TransportError } from '../transport/index.ts'
import type { KeyRenewal } from './key-renewal.ts'
import type { Links } from './links.ts'
import { allowed } from './peer-allowing.ts'
import type { PeerBook } from './peer-book.ts'
import type { PeerGuard } from './peer-guard.ts'
import { linkView } from './views.ts'

export interface LocalPeersParts {
  readonly book: PeerBook
  readonly links: Links
  readonly migrations: Migrations
  readonly disks: Disks
  readonly guard: PeerGuard
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
          next: `Wait for its end, or cancel it: vmstore migration cancel ${busy.id}. Where that site is lost for good, or not to be trusted: vmstore peer remove ${peer.name} --force.`,
        },
      )
    }
    const view = this.#peerView(peer)
    await book.remove(peer)
    links.hub.drop(peer.fingerprint)
    return view
  }

  show(name: string): PeerView {
    return this.#peerView(this.#parts.book.named(name))
  }

  async allow(name: string, request: AllowRequest): Promise<PeerView> {
    const { book, disks } = this.#parts
    const { fingerprint } = book.named(name)
    const peer = await book.allow(fingerprint, (now) => allowed(now, request, (disk) => disks.named(disk)))
    return this.#peerView(peer)
  }

  /** Needs nothing of the peer. */
  async removeByForce(name: string): Promise<RemovedPeerView> {
    const { book, migrations, links, guard } = this.#parts
    const peer = book.named(name)
    const view = this.#peerView(peer)
    const { commands } = migrations
    // While they end it may begin others: these are looked for when it cannot speak any more.
    const ended = await commands.endAllWith(peer.fingerprint)
    await book.remove(peer)
    links.hub.drop(peer.fingerprint)
    guard.forget(peer.fingerprint)
    const stranded = [...ended, ...(await commands.endAllWith(peer.fingerprint))]
    return { ...view, connected: false, stranded: stranded.map(asSentence) }
  }

  async rekey(request: RekeyRequest, signal: AbortSignal): Promise<RekeyView> {
    return told(() => this.#parts.renewal.rekey(request, signal))
  }

  #peerView(peer: PeerRecord): PeerView {
    const { name, site, fingerprint, address } = peer
    const { links, disks } = this.#parts
    const { hub } = links
    const mayTake = peer.mayTake.map(({ disk, give }) => ({ disk, name: disks.get(disk)?.name ?? null, give }))
    return {
      name,
      id: site,
      fingerprint,
      address,
      connected: hub.connected(fingerprint),
      link: linkView(hub.facts(fingerprint)),
      mayTake,
      limits: this.#limitsView(peer),
    }
  }

  #limitsView({ fingerprint, limits }: PeerRecord): PeerLimitsView {
    const { guard, migrations } = this.#parts
    const used: Partial<PeerLimits> = { ...migrations.placedBy(fingerprint), ...guard.useOf(fingerprint) }
    const view = (limit: keyof PeerLimits) => ({
      most: limits[limit] ?? usualLimits[limit],
      isSet: limits[limit] !== undefined,
      used: used[limit] ?? null,
      reached: guard.reachedBy(fingerprint, limit),
    })
    return {
      disks: view('disks'),
      bytes: view('bytes'),
      sizeBytes: view('sizeBytes'),
      calls: view('calls'),
      digests: view('digests'),
      junkBytes: view('junkBytes'),
    }
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

function asSentence(text: string): string {
  return `${text[0]!.toUpperCase()}${text.slice(1)}.`
}
