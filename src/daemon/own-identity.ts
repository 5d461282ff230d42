// Who this site is: its key, which may be renewed while it runs, and what it calls itself to others.

import { type SigningKey, signingKey } from '../deed/keys.ts'
import { Refusal } from '../disk/refusal.ts'
import { type Identity, loadIdentity, PeerError } from '../peer/identity.ts'

/** This site's, now. Whoever keeps it asks anew each time. */
export class OwnIdentity {
  #now: Identity
  #key: SigningKey

  constructor(identity: Identity) {
    this.#now = identity
    this.#key = signingKey(identity.privateKeyPem)
  }

  get now(): Identity {
    return this.#now
  }

  /** With which this site signs. */
  get key(): SigningKey {
    return this.#key
  }

  get siteId(): string {
    return this.#now.siteId
  }

  get fingerprint(): string {
    return this.#now.fingerprint
  }

  /** Its key was renewed, and that is on record. */
  become(next: Identity): void {
    this.#now = next
    this.#key = signingKey(next.privateKeyPem)
  }
}

/** @throws Refusal */
export function ownIdentity(root: string): Promise<Identity> {
  return refusing(() => loadIdentity(root))
}

/** What is wrong with a file of this site's key, as a refusal to start. @throws Refusal */
export async function refusing<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
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
