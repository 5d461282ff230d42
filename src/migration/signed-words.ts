// What a destination signs of what it tells its source: that it serves, with a mark that grows, and that it has everything. The
// source keeps the last of each, and shows it to a destination that says less than it said before: that one was restored from
// an old copy, and believes it because it is its own word. Pure.
//
// What always holds: what is signed names the migration and its disks, so that it proves nothing of another move.

import { z } from 'zod'
import { fingerprintOfKey, isSignedBy, type SigningKey, signBytes } from '../deed/keys.ts'
import { PeerRefusal } from '../link/channel.ts'
import type { MigrationRecord } from '../store/records.ts'

type Move = Pick<MigrationRecord, 'id' | 'disks'>

export interface Mark {
  readonly mark: number
  readonly run: string
}

/** By whom, and with what. `by`: public key, SPKI in DER, in base64. */
export interface SignedWord {
  readonly by: string
  readonly signature: string
}

export function signMark(key: SigningKey, move: Move, said: Mark): SignedWord {
  return { by: key.publicKey, signature: signBytes(key, bytesOf(move, 'taken', said.mark, said.run)) }
}

export function signComplete(key: SigningKey, move: Move): SignedWord {
  return { by: key.publicKey, signature: signBytes(key, bytesOf(move, 'complete')) }
}

/** @throws PeerRefusal when it is not of the peer */
export function checkMark(peerId: string, move: Move, said: Mark & SignedWord): void {
  check(peerId, said, bytesOf(move, 'taken', said.mark, said.run))
}

/** @throws PeerRefusal when it is not of the peer */
export function checkComplete(peerId: string, move: Move, said: SignedWord): void {
  check(peerId, said, bytesOf(move, 'complete'))
}

/** What a source shows (supersession.ts). */
const shown = z.object({
  mark: z.number().int().nonnegative(),
  run: z.string().max(100).nullable(),
  markSigned: z.string().max(200).nullable(),
  completeSigned: z.string().max(200).nullable(),
})

/** This daemon's run. `isMarked`: the last mark on record is its own, and not of the run before. */
export interface ThisRun {
  readonly run: string
  readonly isMarked: boolean
}

/**
 * Whether this site was further once than `move`, of which something is missing: it had said `complete`; or another run of it had
 * said a later mark, or that which this run has taken for its own.
 */
export function wasFurther(
  key: SigningKey,
  move: Move & Pick<MigrationRecord, 'mark'>,
  { run, isMarked }: ThisRun,
  facts: unknown,
): boolean {
  const found = shown.safeParse(facts).data
  if (!found) return false
  const isOurs = (signed: string | null, bytes: Buffer) => signed !== null && isSignedBy(key.publicKey, bytes, signed)
  if (isOurs(found.completeSigned, bytesOf(move, 'complete'))) return true
  if (found.run === null || found.run === run) return false
  if (found.mark < move.mark || (found.mark === move.mark && !isMarked)) return false // Said by the run before this one.
  return isOurs(found.markSigned, bytesOf(move, 'taken', found.mark, found.run))
}

function check(peerId: string, { by, signature }: SignedWord, bytes: Buffer): void {
  if (fingerprintOfKey(by) === peerId && isSignedBy(by, bytes, signature)) return
  throw new PeerRefusal('not-signed', 'what was said is not signed by the key of the site that says it')
}

function bytesOf({ id, disks }: Move, ...said: readonly (string | number)[]): Buffer {
  const of = disks.map((disk) => [disk.id, disk.generation])
  return Buffer.from(`vmstore move 1\n${JSON.stringify([id, of, ...said])}`)
}
