// What is asked about other sites, and what is answered.

import { z } from 'zod'
import { diskName } from './disks.ts'

export const inviteRequest = z.strictObject({
  address: z.string().max(1024).optional(),
  /** What this site will call the one that joins. */
  name: diskName.optional(),
})
export type InviteRequest = z.infer<typeof inviteRequest>

export const joinRequest = z.strictObject({ token: z.string().max(4096), name: diskName.optional() })
export type JoinRequest = z.infer<typeof joinRequest>

/** Whether the other site is heard of. untried: nobody has wanted to speak with it since this site started. */
export interface LinkView {
  readonly state: 'up' | 'down' | 'untried'
  /** Since when; null: untried. */
  readonly since: string | null
  /** down: what broke it, or why it could not be reached last, in a sentence's end. */
  readonly why: string | null
}

export interface PeerView {
  readonly name: string
  readonly id: string
  readonly fingerprint: string
  readonly address: string | null
  readonly connected: boolean
  readonly link: LinkView
}

export interface InviteView {
  readonly token: string
  readonly address: string
  readonly expiresAt: string
}

/** `confirmed`: the operator has read what becomes of it. `force`: also with peers that cannot be told. */
export const rekeyRequest = z.strictObject({ confirmed: z.boolean(), force: z.boolean().default(false) })
export type RekeyRequest = z.infer<typeof rekeyRequest>

export interface SiteKeyView {
  readonly id: string
  readonly fingerprint: string
}

export interface RekeyView {
  readonly before: SiteKeyView
  readonly after: SiteKeyView
  /** Names of the peers that know the new key. */
  readonly told: readonly string[]
  /** Names of those that have to be paired anew. */
  readonly away: readonly string[]
}
