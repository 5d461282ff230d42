// The bounds of the NBD server: those of any guest-facing server, and what is NBD's own.

import { defaultNewcomerLimits, type NewcomerLimits } from '../../entrance/newcomers.ts'
import { defaultGuestLimits, type GuestLimits } from '../../guest/limits.ts'

/** A client is a newcomer until it has agreed on an export. */
export interface NbdLimits extends GuestLimits, NewcomerLimits {
  /** Options in one negotiation, on top of one for each export. */
  readonly options: number
  readonly optionBytes: number
  /** Extents in one chunk of a BLOCK_STATUS reply. */
  readonly extents: number
}

export const defaultLimits: NbdLimits = {
  ...defaultGuestLimits,
  ...defaultNewcomerLimits,
  options: 32,
  optionBytes: 64 * 1024,
  extents: 512,
}
