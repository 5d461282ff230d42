// The claim of a ticket: which of those who have it takes the move. The first that puts it, once for all (once.ts).
//
// What always holds: the source gives its disks to the key in the claim alone, and keeps on record which that is: later it does not
// ask the store again.

import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { ObjectStore } from '../transport/index.ts'
import { Once, type OnceRecord, type Outcome } from './once.ts'

const text = (length: number) =>
  z
    .string()
    .min(1)
    .max(length)
    .refine((value) => value.isWellFormed() && !/\p{Cc}/u.test(value), { error: 'it has characters that are no text' })
const shape = z.strictObject({
  v: z.literal(1),
  site: text(64),
  name: text(200),
  /** The claimant's public key: SPKI in DER, in base64. */
  publicKey: z.base64().max(200),
  attempt: z.uuid(),
})

export type Claimed = z.infer<typeof shape>
export type Claimant = Omit<Claimed, 'v' | 'attempt'>

export interface ClaimParts {
  readonly store: Pick<ObjectStore, 'put' | 'get' | 'delete'>
  readonly folder: string
  /** MoveKeys.claim */
  readonly key: Uint8Array
  readonly move: string
  readonly record: OnceRecord
}

/** There is one of each move. */
export const claimPosition = 'claim'

export class Claim {
  readonly #once: Once<Claimed>

  constructor({ store, folder, key, move, record }: ClaimParts) {
    const as = { move, kind: 'claim', position: claimPosition, generation: 0 } as const
    this.#once = new Once({ store, folder, key, as, shape, record, what: `the claim of move ${move}` })
  }

  /** Asked again, after a crash too, it is answered the same. @throws as Fence.decide */
  take(claimant: Claimant, signal: AbortSignal): Promise<Outcome<Claimed>> {
    return this.#once.decide((attempted) => ({ ...claimant, ...attempted }), signal)
  }

  /** undefined: nobody has taken it, as far as the store shows. @throws SealError */
  read(signal: AbortSignal): Promise<Claimed | undefined> {
    return this.#once.read(signal)
  }
}

/** As peers pin keys: hex SHA-256 of the public key. */
export function fingerprintOfClaimant({ publicKey }: Claimant): string {
  return createHash('sha256').update(Buffer.from(publicKey, 'base64')).digest('hex')
}
