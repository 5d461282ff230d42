// What a site says to the other through a store: one letter a direction, which it replaces. Codec and schema; pure.
//
// What always holds: a letter that opens was written by the other site for this place; which of its letters it is, its session
// and number say, and whoever reads it never goes back to an older one (sessions.ts).

import { z } from 'zod'
import { SealError } from '../errors.ts'
import type { MailDirection } from '../keys.ts'
import { numbered } from '../names.ts'
import { open, type SealedAs, seal } from '../seal.ts'

/** Requests under way in one direction. */
export const mostRequests = 40
/** JSON of one request or answer. */
export const longestWordsBytes = 256 * 1024
/** Of a body, chunks. */
export const mostParts = 512

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const session = z.object({ number: count, nonce: z.uuid() })
const run = z.tuple([count, count])
const asked = z.union([
  z.object({
    id: count,
    method: z.string().min(1).max(128),
    params: z.looseObject({}),
    /** The answer may have a body, of at most so many bytes. */
    bodyBytes: count.optional(),
  }),
  z.object({
    id: count,
    fetch: z.object({
      migration: z.string().min(1).max(128),
      disk: z.string().min(1).max(128),
      generation: count,
      urgency: z.enum(['demand', 'background']),
      runs: z.array(run).min(1).max(4096),
    }),
  }),
])
const part = z.object({ name: z.string().max(64), lengthBytes: count, digest: z.string().max(64) })
/** Offset, length, and what it is: its bytes are next in the body, or it is zeros or a hole, and has none. */
const piece = z.tuple([count, count, z.enum(['bytes', 'zeros', 'hole'])])
const answered = z.union([
  z.object({
    id: count,
    error: z.object({
      code: z.string().min(1).max(64),
      message: z.string().max(4096),
      facts: z.looseObject({}).optional(),
    }),
  }),
  z.object({
    id: count,
    answer: z.unknown(),
    parts: z.array(part).max(mostParts).optional(),
    pieces: z.array(piece).max(16_384).optional(),
  }),
])
const shape = z.object({
  v: z.literal(1),
  session,
  /** The session of the other site that was seen last; null: none was. */
  to: session.nullable(),
  number: count,
  requests: z.array(asked).max(mostRequests),
  answers: z.array(answered).max(mostRequests),
})

export type Session = z.infer<typeof session>
export type Asked = z.infer<typeof asked>
export type Answered = z.infer<typeof answered>
export type Part = z.infer<typeof part>
export type PiecePlace = z.infer<typeof piece>
export type Letter = z.infer<typeof shape>

export function letterPosition(direction: MailDirection): string {
  return `${direction}/${numbered(1)}`
}

export function sealLetter(key: Uint8Array, as: SealedAs, letter: Letter): Buffer {
  return seal(key, as, Buffer.from(JSON.stringify(letter)))
}

/** @throws SealError */
export function openLetter(key: Uint8Array, as: SealedAs, sealed: Uint8Array): Letter {
  const text = open(key, as, sealed).toString()
  try {
    return shape.parse(JSON.parse(text))
  } catch (error) {
    throw new SealError(`the relay's object mail/${as.position} cannot be understood`, { cause: error })
  }
}
