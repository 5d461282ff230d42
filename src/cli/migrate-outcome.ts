// How a move that a command watched has ended, other than well: detached, cancelled, failed, or with a command of --exec that
// failed. Who owns then is what is on record, and nothing else.

import type { ControlClient } from '../control/client.ts'
import { ControlError } from '../control/errors.ts'
import { ExitCode, type MigrationView } from '../control/types.ts'
import { endedText, execute } from './exec.ts'
import { ownerUnknown } from './follow.ts'
import { course, wayBack } from './migration-text.ts'
import { asSentence } from './standing-text.ts'

/** @throws Error that says how it failed */
export async function executed(command: string, view: MigrationView): Promise<void> {
  const ended = await execute(command, view)
  if (ended.code !== 0) throw new Error(`the command of --exec ${endedText(ended)}`)
}

/** Whoever owns now owns on: the command of the operator moved nothing, and nothing is switched because of it. */
export async function execFailed(
  client: ControlClient,
  { id, disk }: MigrationView,
  error: Error,
): Promise<ControlError> {
  const message = asSentence(`${error.message}; nothing is switched by it`)
  const next = `Run it again by hand while the migration stands, or ${wayBack(id)}.`
  try {
    const view = await client.showMigration(id)
    if (view.ownerSide !== 'unknown')
      return new ControlError({ code: 'exec-failed', disk, message, next, ...ownedBy(view, view.ownerSide) })
  } catch {} // Nobody here knows, then.
  const safe = 'At most one site serves the disk.'
  return new ControlError({ code: 'exec-failed', exit: ExitCode.ownerUnknown, disk, message, safe, next })
}

export function detached(disk: string, id: string | undefined, cause: unknown): ControlError {
  const facts = { code: 'detached', exit: ExitCode.detached, disk } as const
  if (id !== undefined) {
    const message = `Detached: the migration of ${disk} goes on without this command.`
    return new ControlError({ ...facts, message, next: asSentence(wayBack(id)) }, { cause })
  }
  const message = `Detached before the daemon had said that the migration of ${disk} began.`
  const next = 'See whether it did: vmstore migration list.'
  return new ControlError(
    { ...facts, message, safe: 'The source owns the disk still, or a migration goes on.', next },
    { cause },
  )
}

/** By what is on record, and by nothing else. */
function ownedBy({ disk, ownerName }: MigrationView, side: 'source' | 'destination' | 'other') {
  const exit = {
    source: ExitCode.failedSourceOwns,
    destination: ExitCode.failedDestinationOwns,
    other: ExitCode.other,
  }[side]
  const who = side === 'other' ? 'Another site' : `The ${side}`
  return { exit, safe: `${who}, ${ownerName}, owns ${disk}.` }
}

/** A migration that ended with a result other than done; or that stands still until the next start, and has not ended. */
export function unfinished(view: MigrationView): ControlError {
  const { disk, id, state, ownerSide } = view
  const why = view.note ?? 'no reason was given'
  if (state !== 'cancelled' && state !== 'failed') {
    // What is on record may be old by now: the other site may have given the disk, or taken it, since.
    return ownerUnknown(disk, `The migration of ${course(view)} stands still, at "${state}": ${why}.`, id, undefined)
  }
  const message = `The migration of ${course(view)} ${state === 'cancelled' ? 'was cancelled' : `failed: ${why}`}.`
  if (ownerSide === 'unknown') {
    const safe = 'It is over at this site, and at most one site serves the disk.'
    const next = `Look at both sites before the machine is started at either: vmstore disk show ${disk}.`
    return new ControlError({ code: 'owner-unknown', exit: ExitCode.ownerUnknown, disk, message, safe, next })
  }
  return new ControlError({ code: `migration-${state}`, disk, message, ...ownedBy(view, ownerSide) })
}
