// What is asked about other sites, and what is answered.

import { z } from 'zod'
import { type CountView, diskName } from './disks.ts'

export const inviteRequest = z.strictObject({
  address: z.string().max(1024).optional(),
  /** What this site will call the one that joins. */
  name: diskName.optional(),
})
export type InviteRequest = z.infer<typeof inviteRequest>

export const joinRequest = z.strictObject({ token: z.string().max(4096), name: diskName.optional() })
export type JoinRequest = z.infer<typeof joinRequest>

/** null: the usual one again. */
const limit = z.number().int().nonnegative().nullable()

/** What a peer may here. What is not named stays as it is. */
export const allowRequest = z.strictObject({
  /** A disk's name, or `*`: the peer may have it moved to itself; with `revoke` it may no more. */
  take: z.string().min(1).max(127).optional(),
  /** With `take`: its operator says when. */
  give: z.boolean().optional(),
  revoke: z.boolean().optional(),
  limits: z
    .strictObject({
      disks: limit,
      bytes: limit,
      sizeBytes: limit,
      calls: limit.refine((count) => count !== 0, 'a peer without requests is no peer'),
      digests: limit.refine((count) => count !== 0, 'a disk that nobody may compare never ends its move'),
      junkBytes: limit,
    })
    .partial()
    .optional(),
})
export type AllowRequest = z.infer<typeof allowRequest>

/** Whether the other site is heard of. untried: nobody has wanted to speak with it since this site started. */
export interface LinkView {
  readonly state: 'up' | 'down' | 'untried'
  /** Since when; null: untried. */
  readonly since: string | null
  /** down: what broke it, or why it could not be reached last, in a sentence's end. */
  readonly why: string | null
}

/** Disks that a peer may have moved to itself. */
export interface MayTakeView {
  /** UUID, or `*`. */
  readonly disk: string
  /** null: it is every disk, or not here any more. */
  readonly name: string | null
  /** Its operator says when. */
  readonly give: boolean
}

export interface PeerLimitView {
  readonly most: number
  /** Set by the operator here; else it is the usual one. */
  readonly isSet: boolean
  /** Now; null: not counted as such. */
  readonly used: number | null
  /** How often the peer wanted more, since the daemon started; null: never. */
  readonly reached: CountView | null
}

export interface PeerLimitsView {
  /** Disks here that it has moved, or moves, to this site; what they have here; their sizes together, holes included. */
  readonly disks: PeerLimitView
  readonly bytes: PeerLimitView
  readonly sizeBytes: PeerLimitView
  /** Requests that are open at once; of these, questions for digests that are worked at. */
  readonly calls: PeerLimitView
  readonly digests: PeerLimitView
  /** Bytes an hour in connections that broke the protocol. */
  readonly junkBytes: PeerLimitView
}

export interface PeerView {
  readonly name: string
  readonly id: string
  readonly fingerprint: string
  readonly address: string | null
  readonly connected: boolean
  readonly link: LinkView
  readonly mayTake: readonly MayTakeView[]
  readonly limits: PeerLimitsView
}

/** A peer that was removed by force. */
export interface RemovedPeerView extends PeerView {
  /** What became of the migrations with it, and what is lost with it: sentences. */
  readonly stranded: readonly string[]
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
