// A ticket: what the source of a move through a relay prints, and whoever has it may claim the move. Pure.
//
// What always holds: it has the secret of the move, so that it is as good as the disk; its address has none. It does not expire:
// a disk may lie parked in a store for as long as its owner likes.

import { createHash, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'
import { RelayError } from './errors.ts'
import { secretBytes } from './keys.ts'

export const ticketPrefix = 'vmstore-ticket-'
const maximumTicketCharacters = 4096
/** Of its SHA-256, behind the document: whether all of it was copied. */
const checkBytes = 6

export interface Ticket {
  /** The store: `s3://bucket/prefix`, without secrets. */
  readonly address: string
  /** The migration's id. */
  readonly move: string
  readonly secret: Uint8Array
  /** The source's id, its name for people, and the fingerprint of its key. */
  readonly site: string
  readonly name: string
  readonly fingerprint: string
  /** What is moved, for people. */
  readonly disks: readonly string[]
}

const text = (length: number) =>
  z
    .string()
    .min(1)
    .max(length)
    .refine((value) => value.isWellFormed() && !/\p{Cc}/u.test(value), { error: 'it has characters that are no text' })

const shape = z.strictObject({
  v: z.literal(1),
  address: text(1024).refine(hasNoSecret, { error: 'an address has no secrets' }),
  move: text(64),
  secret: z.base64url().transform((value) => new Uint8Array(Buffer.from(value, 'base64url'))),
  site: text(64),
  name: text(200),
  fingerprint: z.string().regex(/^[0-9a-f]{64}$/),
  disks: z.array(text(200)).min(1).max(64),
})

/** Of many disks the first are named: the manifest has them all. */
export function encodeTicket(ticket: Ticket): string {
  const disks = ticket.disks.slice(0, 8)
  const secret = Buffer.from(ticket.secret).toString('base64url')
  const { address, move, site, name, fingerprint } = ticket
  const fields = shape.safeParse({ v: 1, address, move, secret, site, name, fingerprint, disks })
  if (!fields.success || fields.data.secret.length !== secretBytes) {
    throw new RelayError('ticket-invalid', `a ticket for ${address} cannot be made`, { cause: fields.error })
  }
  const document = Buffer.from(JSON.stringify({ ...fields.data, secret }))
  const encoded = ticketPrefix + Buffer.concat([document, check(document)]).toString('base64url')
  if (encoded.length > maximumTicketCharacters) throw new RelayError('ticket-invalid', 'the ticket would be too long')
  return encoded
}

/** @throws RelayError `ticket-invalid`. Says nothing about whether the move still stands in the store. */
export function decodeTicket(written: string): Ticket {
  // Terminals and mail break long lines.
  const ticket = written.replace(/\s+/g, '')
  const what = 'this is no ticket of `vmstore migrate --via`'
  if (ticket.length > maximumTicketCharacters) throw new RelayError('ticket-invalid', `${what}: it is too long`)
  if (!ticket.startsWith(ticketPrefix)) {
    throw new RelayError('ticket-invalid', `${what}: copy it whole, from ${ticketPrefix}…`)
  }
  const bytes = Buffer.from(ticket.slice(ticketPrefix.length), 'base64url')
  const document = bytes.subarray(0, Math.max(0, bytes.length - checkBytes))
  if (bytes.length < checkBytes || !timingSafeEqual(check(document), bytes.subarray(document.length))) {
    throw new RelayError('ticket-invalid', `${what}, or not all of it: copy it whole`)
  }
  try {
    const { v: _, ...fields } = shape.parse(JSON.parse(document.toString('utf8')))
    if (fields.secret.length !== secretBytes) throw new RangeError(`a secret of ${fields.secret.length} bytes`)
    return fields
  } catch (error) {
    throw new RelayError('ticket-invalid', `${what}, or one of a newer vmstore`, { cause: error })
  }
}

/** Whoever sees an address in a log must not be able to open the store: who may is the store's own affair. */
export function hasNoSecret(address: string): boolean {
  const url = URL.parse(address)
  return url !== null && url.username === '' && url.password === '' && url.hash === ''
}

function check(document: Uint8Array): Buffer {
  return createHash('sha256').update('vmstore ticket 1\n').update(document).digest().subarray(0, checkBytes)
}
