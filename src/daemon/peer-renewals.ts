// Peers that renew their keys: the next key is pinned on the word of the present one, and when it first shows, what this site
// has on record of that peer follows it.
//
// What always holds: a key is accepted only when it is pinned; once the next one has shown, the one before is not any more.
// Peer, migrations and disks follow in one transaction, and in memory in the step after it.

import type { Logger } from 'pino'
import type { Disks } from '../disk/disks.ts'
import { commitTogether } from '../disk/plan.ts'
import { Refusal } from '../disk/refusal.ts'
import { LinkError, type PeerHandlers, PeerRefusal } from '../link/channel.ts'
import type { LinkHub } from '../link/peers/hub.ts'
import type { Migrations } from '../migration/site/migrations.ts'
import { PeerError, siteIdOf } from '../peer/identity.ts'
import { nextKeyIn } from '../peer/renewal-statement.ts'
import type { Change, PeerRecord } from '../store/records.ts'
import type { PeerBook } from './peer-book.ts'
import { type Renaming, renamedMigration, renamedOwner } from './renamed-records.ts'
import { movesWith } from './renewal-moves.ts'

const followTimeoutMs = 10_000
/** Calls that begin a move. */
const beginnings: readonly string[] = ['prepare', 'request']

/** What a site answers to its peers, and that they renew their keys. While this one renews its own no move begins. */
export function withRenewals(
  handlers: PeerHandlers,
  renewals: PeerRenewals,
  own: () => { checkIdle(): void } | undefined,
): PeerHandlers {
  return {
    async call(peerId, method, params, signal) {
      if (method === 'rekey') return renewals.told(peerId, params)
      if (beginnings.includes(method)) checkOwn(own())
      return handlers.call(peerId, method, params, signal)
    },
    fetch: (peerId, request, urgency, signal) => handlers.fetch(peerId, request, urgency, signal),
  }
}

/** A peer that has said that it renews its key shows it at the next link, which is made as soon as the present one ends. */
export function followAtBreaks(hub: LinkHub, book: PeerBook): void {
  hub.onEvent((peerId, { kind }) => {
    const peer = book.get(peerId)
    if (kind !== 'down' || !peer?.next || peer.address === null) return
    hub.probe(peerId, { signal: AbortSignal.timeout(followTimeoutMs) }).catch(() => {}) // Whoever needs it tries again.
  })
}

function checkOwn(renewal: { checkIdle(): void } | undefined): void {
  try {
    renewal?.checkIdle()
  } catch (error) {
    throw error instanceof Refusal ? new PeerRefusal(error.code, error.toPeer) : error
  }
}

export interface PeerRenewalsParts {
  readonly book: PeerBook
  readonly disks: Disks
  readonly log: Logger
  migrations(): Migrations
  commit(changes: readonly Change[]): Promise<void>
  /** Ends all links under the key before. */
  drop(peerId: string): void
}

export class PeerRenewals {
  readonly #parts: PeerRenewalsParts
  readonly #following = new Map<string, Promise<void>>()

  constructor(parts: PeerRenewalsParts) {
    this.#parts = parts
  }

  /** A peer says which key it will have. @throws PeerRefusal, and then nothing has changed */
  async told(peerId: string, said: unknown): Promise<object> {
    const { book, log } = this.#parts
    const peer = book.get(peerId)
    if (!peer) throw new PeerRefusal('peer-unknown', 'that site does not know this one any more')
    const next = this.#nextKey(peer, said)
    const moves = movesWith(this.#parts.migrations(), peerId)
    if (moves.length > 0)
      throw new PeerRefusal('migrating', `migration ${moves[0]!.id} with this site is not over there`)
    await book.pinNext(peer, next)
    log.info({ peer: peer.name, next }, 'a peer is about to renew its key: the next one is trusted besides')
    return {}
  }

  /**
   * The peer with the present key `before` shows its next one, or already has: what is on record of it follows. Rejects, and
   * then it is not known by the next key yet, and may try again.
   */
  follow(next: string): Promise<void> {
    const underWay = this.#following.get(next)
    if (underWay) return underWay
    const following = this.#follow(next).finally(() => this.#following.delete(next))
    this.#following.set(next, following)
    return following
  }

  #nextKey(peer: PeerRecord, said: unknown): string {
    const { book } = this.#parts
    try {
      const next = nextKeyIn(said, peer.fingerprint)
      const other = book.get(next) ?? book.renewing(next)
      if (other && other.fingerprint !== peer.fingerprint)
        throw new PeerError('rekey-invalid', 'a statement of a new key does not count: the key is that of another peer')
      return next
    } catch (error) {
      if (error instanceof PeerError) throw new PeerRefusal(error.code, error.message)
      throw error
    }
  }

  async #follow(next: string): Promise<void> {
    const { book, disks, log, migrations, commit, drop } = this.#parts
    const peer = book.renewing(next)
    if (!peer) return // It has followed already.
    const moves = movesWith(migrations(), peer.fingerprint)
    if (moves.length > 0)
      throw new LinkError('unreachable', `${peer.name} has another key, and migration ${moves[0]!.id} is under way`)
    const record: PeerRecord = { ...peer, fingerprint: next, site: siteIdOf(next), next: null }
    const renaming: Renaming = {
      before: { fingerprint: peer.fingerprint, siteId: peer.site },
      after: { fingerprint: next, siteId: record.site },
    }
    const past = migrations()
      .past()
      .flatMap((each) => renamedMigration(each, renaming) ?? [])
    const named = disks.all().filter((disk) => disk.record.owner === peer.site)
    const plans = named.map((disk) => disk.rewrite((now) => ({ owner: renamedOwner(now.owner, renaming) })))
    const changes: Change[] = [
      { remove: 'peer', id: peer.fingerprint },
      { put: 'peer', record },
      ...past.map((each) => ({ put: 'migration' as const, record: each })),
    ]
    const committed = () => {
      book.replaced(peer, record)
      migrations().renamed(past)
    }
    if (plans.length > 0) await commitTogether(plans, changes, committed)
    else {
      await commit(changes)
      committed()
    }
    log.info(
      { peer: peer.name, before: peer.fingerprint, next },
      'a peer has renewed its key, and is known by the new one',
    )
    drop(peer.fingerprint)
  }
}
