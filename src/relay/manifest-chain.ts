// Parts of a manifest in the store: sealed as their number, and each bound to the one before it. Pure.
//
// What always holds: a reader that has followed the manifest up to a number gets as the next part what the publisher had put behind
// exactly that, or a SealError: an older manifest, another's, a part of another number or one that was put anew are not followed.
// A part that is withheld is waited for, and nothing behind it is believed meanwhile.

import { SealError } from './errors.ts'
import { decodePart, encodePart, hashOfPart, type ManifestPart } from './manifest.ts'
import { numbered } from './names.ts'
import { open, type SealedAs, seal } from './seal.ts'

export interface PartPlace {
  /** MoveKeys.manifest */
  readonly key: Uint8Array
  readonly move: string
  /** The one that the move makes; of several disks the highest. */
  readonly generation: number
  /** From 1. */
  readonly number: number
}

/** How far a manifest was written or followed: `hash` is the next part's `previous`. */
export interface Followed {
  readonly number: number
  readonly hash: string | null
}

export const nothingFollowed: Followed = { number: 0, hash: null }

/** The part of the next number, and what the one after it follows. */
export function sealPart(
  place: Omit<PartPlace, 'number'>,
  after: Followed,
  part: Omit<ManifestPart, 'previous'>,
): { readonly position: string; readonly sealed: Buffer; readonly followed: Followed } {
  const number = after.number + 1
  const sealed = seal(place.key, placeOf({ ...place, number }), encodePart({ ...part, previous: after.hash }))
  return { position: numbered(number), sealed, followed: { number, hash: hashOfPart(sealed) } }
}

/** What stands at the next number. @throws SealError, RelayError `manifest-invalid` */
export function openPart(
  place: Omit<PartPlace, 'number'>,
  after: Followed,
  sealed: Uint8Array,
): { readonly part: ManifestPart; readonly followed: Followed } {
  const number = after.number + 1
  const part = decodePart(open(place.key, placeOf({ ...place, number }), sealed))
  if (part.previous !== after.hash) {
    throw new SealError(
      `part ${number} of the relay's manifest does not follow the one before it: one of them was put anew`,
    )
  }
  return { part, followed: { number, hash: hashOfPart(sealed) } }
}

function placeOf({ move, generation, number }: PartPlace): SealedAs {
  return { move, kind: 'manifest', position: numbered(number), generation }
}
