// Watches a migration to its end, across a daemon that is stopped and started meanwhile: the migration itself does not
// need the command. Time is injected.

import type { ControlClient, ToldMigrationEvent } from '../control/client.ts'
import { ControlError } from '../control/errors.ts'
import { ExitCode } from '../control/types.ts'

const retryMs = 250

export interface FollowOptions {
  readonly client: Pick<ControlClient, 'migrationEvents'>
  readonly id: string
  readonly disk: string
  readonly signal: AbortSignal
  /** How long to look for a daemon that is not there; counted anew at each loss. */
  readonly patienceMs: number
  readonly clock: { nowMs(): number; sleep(ms: number, signal: AbortSignal): Promise<void> }
  /** The connection broke, or is back. */
  tell(sentence: string): void
}

/**
 * Every event, up to `result`. Throws the ControlError of an `error` event; ControlError `owner-unknown` (exit 6) when
 * the daemon stays away or has forgotten; `signal.reason` when aborted. After a loss, or
 * when it was too far behind (the terminal was held), the present step comes once more.
 */
export async function* follow(options: FollowOptions): AsyncGenerator<ToldMigrationEvent> {
  const { client, id, signal, clock } = options
  let lostAtMs: number | undefined
  while (true) {
    try {
      for await (const event of client.migrationEvents(id, signal)) {
        if (lostAtMs !== undefined) options.tell('The daemon is back.')
        lostAtMs = undefined
        yield event
      }
      return
    } catch (error) {
      signal.throwIfAborted()
      if (isBehind(error)) continue // Not the daemon's doing: what stands is told anew, at once.
      if (!isLoss(error)) throw lostAtMs === undefined ? error : forgotten(options, error)
      if (lostAtMs === undefined) {
        lostAtMs = clock.nowMs()
        options.tell(
          'The connection to the daemon broke; the migration does not need this command. Looking for the daemon …',
        )
      } else if (clock.nowMs() - lostAtMs >= options.patienceMs) throw gaveUp(options, error)
    }
    await clock.sleep(retryMs, signal)
  }
}

const isBehind = (error: unknown): boolean => error instanceof ControlError && error.code === 'watcher-behind'

/** The daemon went away, or is not there. */
export const isLoss = (error: unknown): boolean =>
  error instanceof ControlError && (error.code === 'daemon-lost' || error.code === 'daemon-unreachable')

function gaveUp({ id, disk, patienceMs }: FollowOptions, cause: unknown): ControlError {
  return ownerUnknown(
    disk,
    `The daemon has been away for ${Math.round(patienceMs / 1000)} s, so how far ${disk} was moved is not known here.`,
    id,
    cause,
  )
}

/** An error that the migration itself ended with says who owns; a refusal of the question does not. */
function forgotten({ id, disk }: FollowOptions, cause: unknown): unknown {
  const error = cause as Partial<ControlError>
  const decides: (number | undefined)[] = [
    ExitCode.failedSourceOwns,
    ExitCode.failedDestinationOwns,
    ExitCode.ownerUnknown,
  ]
  if (decides.includes(error.exit)) return cause
  return ownerUnknown(
    disk,
    `The daemon is back and does not answer for the migration of ${disk}: ${error.message}`,
    id,
    cause,
  )
}

/** Exit 6: what was asked may have been done. */
export function ownerUnknown(disk: string, message: string, id: string | undefined, cause: unknown): ControlError {
  const look = id === undefined ? 'vmstore migration list' : `vmstore migration show ${id}`
  return new ControlError(
    {
      code: 'owner-unknown',
      exit: ExitCode.ownerUnknown,
      disk,
      message,
      safe: 'The migration is durable at both sites: it goes on when the daemon runs, and at most one site serves the disk.',
      next: `Start the daemon with vmstore serve, then look with ${look} and vmstore disk show ${disk} at both sites.`,
    },
    { cause },
  )
}
