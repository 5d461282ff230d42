// Who this site is: its key, and what it calls itself to others.

import { Refusal } from '../disk/refusal.ts'
import { type Identity, loadIdentity, PeerError } from '../peer/identity.ts'

/** @throws Refusal */
export async function ownIdentity(root: string): Promise<Identity> {
  try {
    return await loadIdentity(root)
  } catch (error) {
    if (!(error instanceof PeerError)) throw error
    const { code, message, next } = error
    throw new Refusal(code, message, { safe: 'No disk was touched.', ...(next && { next }), cause: error })
  }
}

/** A host's name as a site's name. */
export function siteNameOf(host: string): string {
  const name = host
    .split('.')[0]!
    .replace(/[^A-Za-z0-9_-]/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
  return name.slice(0, 127) || 'site'
}
