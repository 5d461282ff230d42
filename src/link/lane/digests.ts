// The one place where bytes that travel are hashed, on their way out and on their way in: pieces, and the parts of bodies.
// Asynchronous on both sides: today in short steps, each in a turn of the loop; a worker may do it, and compress, without
// those who call noticing.

import { sha256 } from '../../block/digest.ts'
import { loopTurns } from '../../block/turns.ts'
import type { Piece, Urgency } from '../../block/units.ts'
import { LinkError } from '../channel.ts'
import type { Sealed, SealedPiece } from '../wire/frames.ts'

/** Of bytes that leave for a peer. They must not change until it resolves. */
export function seal(bytes: Uint8Array, urgency: Urgency, peerId: string): Promise<Buffer> {
  return sha256(bytes, () => loopTurns.next(urgency, peerId))
}

/** The bytes that came, held against their digest. @throws LinkError `protocol` */
export async function unseal({ bytes, digest }: Sealed, urgency: Urgency, what: string): Promise<Buffer> {
  // What a guest waits for is begun in the turn in which it came, of which a lane takes little in one turn.
  let isItsTurn = urgency === 'demand'
  const actual = await sha256(bytes, async () => {
    if (!isItsTurn) await loopTurns.next(urgency)
    isItsTurn = false
  })
  if (actual.equals(digest)) return bytes
  throw new LinkError('protocol', `the peer sent ${what} that does not match its digest`)
}

/** @throws LinkError `protocol` */
export async function unsealPiece({ offset, length, hole, sealed }: SealedPiece, urgency: Urgency): Promise<Piece> {
  if (!sealed) return { offset, length, bytes: undefined, hole }
  return { offset, length, bytes: await unseal(sealed, urgency, `a piece at ${offset}`) }
}
