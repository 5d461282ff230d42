// Under which keys the objects of a move stand. Pure.
//
//   <prefix>/<folder>/<kind>/<position>       such as  …/9f2c…/manifest/000000000012,  …/9f2c…/chunk/04be…
//
// The folder and a chunk's position are keyed hashes: whoever has the move's keys finds them, and nobody learns from them
// which move it is, or what a chunk holds. Kinds and numbers stand open: how many there are shows anyway.
//
// What always holds: an object is sealed as the place where it stands, for both are made of the same kind and position.

import { createHmac } from 'node:crypto'
import type { SealedAs } from './seal.ts'

const kinds = ['chunk', 'manifest', 'mail', 'claim', 'fence', 'state'] as const satisfies readonly SealedAs['kind'][]
/** Lower case, for folders on file systems that know no case; a part has 64 bytes at most, as stores demand (transport/contract.ts). */
const positionShape = /^[0-9a-z][0-9a-z-]{0,63}(\/[0-9a-z][0-9a-z-]{0,63}){0,3}$/
const folderShape = /^[0-9a-f]{40}$/
const numberDigits = 12
export const largestNumber = 10 ** numberDigits - 1

/** Of a move, from `MoveKeys.names`. */
export function moveFolder(names: Uint8Array): string {
  return createHmac('sha256', names).update('folder').digest('hex').slice(0, 40)
}

/** Of a chunk, from the SHA-256 of its bytes: its position. */
export function chunkName(names: Uint8Array, digest: Uint8Array): string {
  return createHmac('sha256', names).update('chunk\n').update(digest).digest('hex')
}

/** A number as a part of a position: listings then give them in their order. */
export function numbered(number: number): string {
  if (!Number.isInteger(number) || number < 0 || number > largestNumber)
    throw new RangeError(`${number} is no number here`)
  return String(number).padStart(numberDigits, '0')
}

/** The number in the last part of a position; undefined: there is none. */
export function numberIn(position: string): number | undefined {
  const last = position.slice(position.lastIndexOf('/') + 1)
  return last.length === numberDigits && /^\d+$/.test(last) ? Number(last) : undefined
}

/** The object's key in the store, whose address has the prefix already. */
export function keyOf(folder: string, kind: SealedAs['kind'], position: string): string {
  if (!folderShape.test(folder)) throw new RangeError(`${folder} is no folder of a move`)
  if (!positionShape.test(position)) throw new RangeError(`${position} is no position`)
  return `${folder}/${kind}/${position}`
}

/** Where all keys of a move, or those of one kind of it, begin. */
export function prefixOf(folder: string, kind?: SealedAs['kind']): string {
  return kind === undefined ? `${folder}/` : `${folder}/${kind}/`
}

/** What a key of a listing is; undefined: none of a move's. Others may use the bucket too. */
export function parseKey(
  key: string,
): { readonly folder: string; readonly kind: SealedAs['kind']; readonly position: string } | undefined {
  const [folder = '', kind = '', ...rest] = key.split('/')
  const position = rest.join('/')
  const known = kinds.find((one) => one === kind)
  if (!known || !folderShape.test(folder) || !positionShape.test(position)) return undefined
  return { folder, kind: known, position }
}
