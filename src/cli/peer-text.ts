// A peer in words. Pure.

import type { PeerView } from '../control/types.ts'
import { linkText } from './standing-text.ts'

export const peerHeader = ['name', 'connected', 'address', 'fingerprint', 'link'] as const

export function peerRow({ name, connected, address, fingerprint, link }: PeerView): readonly string[] {
  return [name, connected ? 'yes' : 'no', address ?? 'dials us', fingerprint, linkText(link)]
}
