// What the links to a peer use: lanes, on which calls and fetches go both ways, and whoever makes them from plain data. No
// stream and no driver crosses this wall, so that lanes can live elsewhere, in a worker say.

import type { Piece, Urgency } from '../../block/units.ts'
import type { FetchRequest, LinkError, LongAnswer, Purpose } from '../channel.ts'

/** Whom to dial, at which address, for what. Only data: the peer is known by its key, and the scheme names the driver. */
export interface LaneTarget {
  /** The pin: the fingerprint of the peer's key. */
  readonly peerId: string
  readonly address: string
  readonly purpose: Purpose
  /** From 0; there may be several lanes of a purpose, which are used at once. */
  readonly stripe: number
}

/** A lane is opening, open or closed, and closes once: everything under way then ends with the same LinkError. */
export interface Lane {
  /** Resolves once both said hello; rejects with LinkError. */
  readonly opened: Promise<void>
  readonly isOpen: boolean
  /** Known once opened. */
  readonly purpose: Purpose
  readonly stripe: number
  /** Requests under way, in both directions. */
  readonly outstanding: number
  /** Nothing was heard for a while. */
  readonly isSilent: boolean
  call(method: string, params: object, signal: AbortSignal): Promise<unknown>
  callForBody(method: string, params: object, maximumBytes: number, signal: AbortSignal): Promise<LongAnswer>
  /** The request is made at the first `next()`. */
  fetch(request: FetchRequest, urgency: Urgency, signal: AbortSignal): AsyncIterableIterator<Piece>
  /** Called when `isSilent` has changed, and each second while it is true. */
  onSilence(listener: () => void): void
  /** At once, when it is closed already. */
  onClosed(listener: (error: LinkError) => void): void
  close(error?: LinkError): void
}

export interface LaneMaker {
  /** Resolves to an open lane; rejects with LinkError, or with the signal's reason. */
  dial(target: LaneTarget, signal: AbortSignal): Promise<Lane>
}
