// A peer in words. Pure.

import type { PeerView, RekeyView } from '../control/types.ts'
import { linkText } from './standing-text.ts'

export const peerHeader = ['name', 'connected', 'address', 'fingerprint', 'link'] as const

export function peerRow({ name, connected, address, fingerprint, link }: PeerView): readonly string[] {
  return [name, connected ? 'yes' : 'no', address ?? 'dials us', fingerprint, linkText(link)]
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
