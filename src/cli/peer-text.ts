// A peer in words. Pure.

import type { PeerLimitsView, PeerLimitView, PeerView, RekeyView } from '../control/types.ts'
import { countText } from './disk-text.ts'
import { exactSize } from './sizes.ts'
import { linkText } from './standing-text.ts'
import { facts, table } from './table.ts'

export const peerHeader = ['name', 'connected', 'address', 'fingerprint', 'may take', 'link'] as const

export function peerRow(peer: PeerView): readonly string[] {
  const { name, connected, address, fingerprint, link } = peer
  return [name, connected ? 'yes' : 'no', address ?? 'dials us', fingerprint, mayTakeText(peer), linkText(link)]
}

/** 'web01, web02 (and say when)', 'every disk', 'nothing' */
export function mayTakeText({ mayTake }: Pick<PeerView, 'mayTake'>): string {
  const each = mayTake.map(({ disk, name, give }) => {
    const what = disk === '*' ? 'every disk' : (name ?? disk)
    return give ? `${what} (and say when)` : what
  })
  return each.join(', ') || 'nothing'
}

export function peerText(peer: PeerView): string {
  const { name, id, fingerprint, address, connected, link, limits } = peer
  const known = facts({
    name,
    id,
    fingerprint,
    address: address ?? 'it dials this site',
    connected: connected ? 'yes' : 'no',
    link: linkText(link) || null,
    'may take': mayTakeText(peer),
  })
  return `${known}\n\n${table(['limit', 'now', 'most', 'reached'], limitRows(limits), '')}`
}

/** What a peer had more than enough of, for whoever looks at the site: '' when nothing. */
export function reachedText(peers: readonly PeerView[]): readonly string[] {
  return peers.flatMap(({ name, limits }) =>
    limitsOf(limits).flatMap(({ title, limit }) =>
      limit.reached === null ? [] : [`${name}: wanted more than it may have of ${title} ${countText(limit.reached)}`],
    ),
  )
}

function limitRows(limits: PeerLimitsView): string[][] {
  return limitsOf(limits).map(({ title, limit, isBytes }) => {
    const text = (count: number) => (isBytes ? exactSize(count) : String(count))
    const most = limit.isSet ? text(limit.most) : `${text(limit.most)} (usual)`
    const now = limit.used === null ? '' : text(limit.used)
    return [title, now, most, limit.reached === null ? 'never' : countText(limit.reached)]
  })
}

interface NamedLimit {
  readonly title: string
  readonly limit: PeerLimitView
  readonly isBytes: boolean
}

function limitsOf({ disks, bytes, sizeBytes, calls, digests, junkBytes }: PeerLimitsView): readonly NamedLimit[] {
  return [
    { title: 'disks placed here', limit: disks, isBytes: false },
    { title: 'bytes of them here', limit: bytes, isBytes: true },
    { title: 'their sizes, with holes', limit: sizeBytes, isBytes: true },
    { title: 'open requests', limit: calls, isBytes: false },
    { title: 'digests at once', limit: digests, isBytes: false },
    { title: 'junk an hour', limit: junkBytes, isBytes: true },
  ]
}

/** What `peer rekey` has done. */
export function rekeyText({ before, after, told, away }: RekeyView): string {
  const known = told.length === 0 ? [] : [`${told.join(', ')} ${told.length > 1 ? 'know' : 'knows'} it by the new key.`]
  const lost = away.length === 0 ? [] : [`To be removed and paired anew, at both sites: ${away.join(', ')}.`]
  return [
    `This site was ${before.id} (${before.fingerprint}), and is ${after.id} (${after.fingerprint}).`,
    ...known,
    ...lost,
  ].join('\n')
}
