// The keys of one move through a relay: all are made from the ticket's secret by HKDF-SHA-256, one for each purpose. Pure.
//
// What always holds: no key is used for two purposes, and none for two moves, even if they had one secret. None ever
// stands in the store.

import { hkdfSync } from 'node:crypto'

export const secretBytes = 32
const keyBytes = 32
const salt = Buffer.from('vmstore relay 1')

/** Who reads what is sealed with it. */
export type MailDirection = 'to-source' | 'to-destination'

export interface MoveKeys {
  /** Names of the move's folder and of its chunks, by HMAC. */
  readonly names: Uint8Array
  readonly chunk: Uint8Array
  readonly manifest: Uint8Array
  readonly mail: (direction: MailDirection) => Uint8Array
  readonly fence: Uint8Array
  /** Who takes the ticket. */
  readonly claim: Uint8Array
  /** What a side leaves for itself or for the other, and replaces. */
  readonly state: Uint8Array
}

/** `move`: the migration's id. `secret`: the ticket's, of `secretBytes`. */
export function moveKeys(secret: Uint8Array, move: string): MoveKeys {
  if (secret.length !== secretBytes) throw new RangeError(`a secret has ${secretBytes} bytes, not ${secret.length}`)
  const key = (purpose: string): Uint8Array =>
    new Uint8Array(hkdfSync('sha256', secret, salt, `${purpose}\n${move}`, keyBytes))
  const mail = { 'to-source': key('mail to-source'), 'to-destination': key('mail to-destination') }
  return {
    names: key('names'),
    chunk: key('chunk'),
    manifest: key('manifest'),
    mail: (direction) => mail[direction],
    fence: key('fence'),
    claim: key('claim'),
    state: key('state'),
  }
}
