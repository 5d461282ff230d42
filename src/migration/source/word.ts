// What the question of a destination for the disks counts for at their source.
//
// What always holds: bytes are decided by the owner's operator. That an operator has said "now", and by force, counts when the
// operator here has: in the terms of the move, by `migration switchover` here, or by having let the peer's operator say it
// (`peer allow --give`), but for force. Of whatever else a destination says the most that it gets is what a guest's first write
// there gets: the disks of a quiet source, unless they are switched over by hand.

import type { MigrationRecord } from '../../store/records.ts'
import type { AcquireAnswer, AcquireReason, Acquisition } from '../counterpart.ts'
import type { Terms } from '../terms.ts'

export interface Weighed {
  readonly reason: Exclude<AcquireReason, 'resume'>
  /** Clients at work are cut off. */
  readonly force: boolean
  /** What the destination's operator said, and what does not count: it is not that operator's to say. */
  readonly unheard: 'word' | 'force' | undefined
}

type Busy = Extract<AcquireAnswer, { answer: 'busy' }>

type Move = Pick<MigrationRecord, 'id' | 'ordered' | 'peerDecides'>

/** Of a question that was not granted before. */
export function weighed(
  { reason, force }: Acquisition,
  move: Move,
  terms: Pick<Terms, 'switchover' | 'force'>,
): Weighed | Busy {
  const isNow = terms.switchover === 'now'
  const isSaid = isNow || move.ordered !== null || move.peerDecides
  const mayForce = (isNow && terms.force) || move.ordered?.force === true
  if (terms.switchover === 'manual' && !isSaid) return byHand(move, reason)
  // `resume` is asked for what was granted. This was not: it counts for no more than what it may have been asked for.
  if (reason === 'operator' || reason === 'resume') {
    const counts = isSaid ? 'operator' : 'guest-write'
    const unheard = force && !mayForce ? 'force' : reason === 'operator' && !isSaid ? 'word' : undefined
    return { reason: counts, force: isSaid && mayForce, unheard }
  }
  return { reason, force: false, unheard: undefined }
}

/** A guest's write waits for the operator; an operator who is not the owner's is told whose word it is. */
function byHand(move: Pick<MigrationRecord, 'id'>, reason: AcquireReason): Busy {
  const isOwners = reason === 'operator' || reason === 'resume'
  return { answer: 'busy', why: `it is switched over by hand: ${sayThere(move)}`, isAtWork: false, isOwners }
}

/**
 * The disks are not quiet, and what the destination's operator said does not count. `isAttached`: a client works here now, and
 * has not only left unflushed writes behind.
 */
export function unheardBusy(
  move: Pick<MigrationRecord, 'id'>,
  unheard: NonNullable<Weighed['unheard']>,
  why: string,
  isAttached: boolean,
): Busy {
  if (unheard === 'word' && isAttached) return { answer: 'busy', why, isAtWork: true }
  const what =
    unheard === 'force' ? 'only the operator there may cut a client off' : 'only the operator there may pass over that'
  const said = `${why}; ${what}: ${sayThere(move)}${unheard === 'force' ? ' --force' : ''}`
  return { answer: 'busy', why: said, isAtWork: false, isOwners: true }
}

const sayThere = ({ id }: Pick<MigrationRecord, 'id'>): string => `there, vmstore migration switchover ${id}`
