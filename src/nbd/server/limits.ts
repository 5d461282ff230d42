// The bounds of the NBD server: those of any guest-facing server, and what is NBD's own.

import { defaultGuestLimits, type GuestLimits } from '../../guest/limits.ts'

export interface NbdLimits extends GuestLimits {
  /** From accept to the end of negotiation. */
  readonly negotiationTimeoutMs: number
  /** Options in one negotiation, on top of one for each export. */
  readonly options: number
  readonly optionBytes: number
  /** Extents in one chunk of a BLOCK_STATUS reply. */
  readonly extents: number
}

export const defaultLimits: NbdLimits = {
  ...defaultGuestLimits,
  negotiationTimeoutMs: 10_000,
  options: 32,
  optionBytes: 64 * 1024,
  extents: 512,
}
