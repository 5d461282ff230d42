// A peer in words. Pure.

import type { PeerView } from '../control/types.ts'

export const peerHeader = ['name', 'connected', 'address', 'fingerprint'] as const

export function peerRow({ name, connected, address, fingerprint }: PeerView): readonly string[] {
  return [name, connected ? 'yes' : 'no', address ?? 'dials us', fingerprint]
}
