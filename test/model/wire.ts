// A piece as the link carries it: encoded, and decoded again, by the link's own code. On the way a bit of it may flip: of
// its bytes, or of their digest. (What stands before them, offset and length, has no digest of its own: the link's TLS
// guards the whole stream, and no TLS is simulated.)

import { hash } from 'node:crypto'
import type { Piece } from '../../src/block/units.ts'
import { unsealPiece } from '../../src/link/lane/digests.ts'
import { encodePiece, type Frame, FrameDecoder, headerBytes } from '../../src/link/wire/frames.ts'
import type { Random } from '../random.ts'

/** Offset, length and kind of a piece, before its digest. */
const pieceHeadBytes = 16
const anyRequest = 1

/** `random`: a bit flips, if the piece has bytes. @throws LinkError */
export async function overTheWire(piece: Piece, random: Random | undefined): Promise<Piece> {
  const digest = piece.bytes && hash('sha256', piece.bytes, 'buffer')
  const bytes = Buffer.concat(encodePiece(anyRequest, piece, digest))
  if (random && piece.bytes) {
    const first = headerBytes + pieceHeadBytes
    bytes[first + random.integer(bytes.length - first)]! ^= 1 << random.integer(8)
  }
  const frames: Frame[] = []
  new FrameDecoder().push(bytes, (frame) => frames.push(frame))
  const [frame] = frames
  if (frame?.type === 'piece') return unsealPiece(frame.piece, 'demand')
  throw new Error('a piece that was encoded is not decoded')
}
