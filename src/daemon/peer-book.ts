// The peers that this site trusts, in memory and on record. A peer is who holds the pinned key; its name is ours to choose.

import { nearestText } from '../disk/nearest-name.ts'
import { Refusal } from '../disk/refusal.ts'
import type { PeerFacts } from '../migration/site/services.ts'
import type { PairedPeer } from '../peer/pairing.ts'
import { type PeerRecord, type Records, untouchedPeer } from '../store/records.ts'

export class PeerBook {
  readonly #records: Records
  readonly #peers = new Map<string, PeerRecord>()
  /** One after the other, so that each sees what the one before allowed. */
  #allowed: Promise<unknown> = Promise.resolve()

  constructor(records: Records, peers: readonly PeerRecord[]) {
    this.#records = records
    for (const peer of peers) this.#peers.set(peer.fingerprint, peer)
  }

  all(): readonly PeerRecord[] {
    return [...this.#peers.values()]
  }

  has(fingerprint: string): boolean {
    return this.#peers.has(fingerprint)
  }

  get(fingerprint: string): PeerRecord | undefined {
    return this.#peers.get(fingerprint)
  }

  /** The peer that has said that it will have this key. */
  renewing(fingerprint: string): PeerRecord | undefined {
    return this.all().find(({ next }) => next === fingerprint)
  }

  bySite(site: string): PeerRecord | undefined {
    return this.all().find((peer) => peer.site === site)
  }

  /** @throws Refusal `peer-unknown` */
  named(name: string): PeerRecord {
    // Names are ours; a peer that called itself by another's id or key is not found before that one.
    const found =
      this.#peers.get(name) ??
      this.all().find((peer) => peer.site === name) ??
      this.all().find((peer) => peer.name === name)
    if (found) return found
    throw new Refusal('peer-unknown', `this site is not paired with ${name}`, {
      safe: 'Nothing was changed.',
      next: `${nearestText(
        name,
        this.all().map((peer) => peer.name),
      )}See the peers: vmstore peer list. Two sites are paired by vmstore peer invite and vmstore peer join.`,
    })
  }

  /** Records a peer durably. A name that was asked for must be free; one that the peer suggests is made so. */
  async admit(peer: PairedPeer, wantedName: string | undefined): Promise<PeerRecord> {
    const known = this.#peers.get(peer.fingerprint)
    const isFree = (name: string) =>
      !this.all().some((other) => other.name === name && other.fingerprint !== peer.fingerprint)
    if (wantedName !== undefined && !isFree(wantedName)) throw nameTaken(wantedName)
    let name = wantedName ?? known?.name ?? peer.name
    for (let count = 2; !isFree(name); count++) name = `${peer.name}-${count}`
    const record: PeerRecord = {
      ...untouchedPeer,
      ...(known && { mayTake: known.mayTake, limits: known.limits }), // Paired again, it is the same site: the key is its name.
      fingerprint: peer.fingerprint,
      site: peer.siteId,
      name,
      address: peer.address ?? known?.address ?? null,
      pairedAt: new Date().toISOString(),
      next: null,
    }
    await this.#records.commit([{ put: 'peer', record }])
    this.#peers.set(record.fingerprint, record)
    return record
  }

  /** @throws Refusal `peer-exists` when the name belongs to another peer */
  checkName(name: string, fingerprint: string | undefined): void {
    const other = this.all().find((peer) => peer.name === name)
    if (other && other.fingerprint !== fingerprint) throw nameTaken(name)
  }

  /** What the peer may; durable when it resolves. */
  async allow(
    fingerprint: string,
    rights: (now: PeerRecord) => Pick<PeerRecord, 'mayTake' | 'limits'>,
  ): Promise<PeerRecord> {
    const work = this.#allowed.then(async () => {
      const now = this.named(fingerprint) // It may have been removed meanwhile.
      const record = { ...now, ...rights(now) }
      await this.#records.commit([{ put: 'peer', record }])
      this.#peers.set(fingerprint, record)
      return record
    })
    this.#allowed = work.catch(() => {})
    return work
  }

  /** Trusts the peer's next key besides the present one, durably. */
  async pinNext(peer: PeerRecord, next: string): Promise<void> {
    const record = { ...peer, next }
    await this.#records.commit([{ put: 'peer', record }])
    this.#peers.set(record.fingerprint, record)
  }

  /** The peer is known by its next key alone, as is on record already. It keeps its place among the others. */
  replaced(before: PeerRecord, after: PeerRecord): void {
    const peers = this.all().map((peer) => (peer.fingerprint === before.fingerprint ? after : peer))
    this.#peers.clear()
    for (const peer of peers) this.#peers.set(peer.fingerprint, peer)
  }

  async remove(peer: PeerRecord): Promise<void> {
    await this.#records.commit([{ remove: 'peer', id: peer.fingerprint }])
    this.#peers.delete(peer.fingerprint)
  }
}

function nameTaken(name: string): Refusal {
  return new Refusal('peer-exists', `there is a peer named ${name} already`, {
    safe: 'Nothing was changed.',
    next: 'Choose another name with --name.',
  })
}

/** A peer, as a migration needs to know it. */
export function peerFacts(peer: PeerRecord): PeerFacts {
  return { id: peer.fingerprint, site: peer.site, name: peer.name }
}
