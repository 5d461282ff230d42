// A migration on the operator's screen, to its end or until Ctrl-C: what `migrate` and `migration watch` share. The migration
// itself needs neither.

import { setTimeout as sleep } from 'node:timers/promises'
import type { ControlClient, ToldMigrationEvent } from '../control/client.ts'
import { ExitCode, type MigrationView } from '../control/types.ts'
import { follow, ownerUnknown } from './follow.ts'
import { hearKeys } from './keys.ts'
import { detached, execFailed, executed, unfinished } from './migrate-outcome.ts'
import type { Display } from './migration-display.ts'

const clock = {
  nowMs: () => performance.now(),
  sleep: (ms: number, signal: AbortSignal) => sleep(ms, undefined, { signal }),
}

export interface Watching {
  readonly client: ControlClient
  /** As it was when the command came to it. */
  readonly migration: MigrationView
  readonly display: Display
  /** The operator has seen enough. */
  readonly signal: AbortSignal
  /** How long to look for a daemon that went away. */
  readonly patienceMs: number
  /** Run here once the machine may move. */
  readonly exec?: string | undefined
  /** What Ctrl-C does. With it keys are heard, where the operator has a terminal. */
  readonly detach?: (() => void) | undefined
  /** Every event but the result. */
  told(event: ToldMigrationEvent): void
}

/** What the operator may press while a migration is watched on a terminal. */
export const watchKeys = 'p pause or resume   d detach'

/** As the keys say. What is refused is told, and changes nothing. */
function heardKeys({ client, migration, display, detach }: Watching, isPaused: () => boolean): Disposable {
  if (detach === undefined) return { [Symbol.dispose]: () => {} }
  const { id } = migration
  const told = (error: unknown) => display.tell((error as Error).message)
  return hearKeys(process.stdin, {
    p: () => void (isPaused() ? client.resume(id) : client.pause(id)).catch(told),
    d: detach,
  })
}

/** Resolves when it is done. @throws ControlError: detached (7), failed or cancelled (4, 5), the owner not known (6) */
export async function watch(options: Watching): Promise<MigrationView> {
  const { client, migration, display, patienceMs, exec } = options
  const { id, disk } = migration
  const failed = new AbortController()
  const signal = AbortSignal.any([options.signal, failed.signal])
  let executing: Promise<void> | undefined
  const tell = (sentence: string) => display.tell(sentence)
  let isPaused = migration.paused
  using _keys = heardKeys(options, () => isPaused)
  try {
    for await (const event of follow({ client, id, disk, signal, patienceMs, clock, tell })) {
      display.show(event)
      isPaused = (event.type === 'result' ? event : event.migration).paused
      if (event.type === 'ready' && exec !== undefined)
        executing ??= executed(exec, event.migration).catch((error: unknown) => failed.abort(error))
      if (event.type !== 'result') options.told(event)
      else if (event.state !== 'done') throw unfinished(event)
      else {
        await executing // The machine may be on its way still, and its disk there already.
        failed.signal.throwIfAborted()
        await display.end('done')
        return event
      }
    }
    throw ownerUnknown(disk, `The daemon fell silent about the migration of ${disk}.`, id, undefined)
  } catch (error) {
    await display.end(options.signal.aborted ? 'detached' : 'failed')
    if (failed.signal.aborted) throw await execFailed(client, migration, failed.signal.reason as Error)
    throw options.signal.aborted ? detached(disk, id, error) : error
  }
}

/** Aborted by the first Ctrl-C; the second ends the process. */
export class Interruption implements Disposable {
  readonly #controller = new AbortController()
  // Stays registered: the screen's own listener ends the process when it finds itself alone.
  readonly #listener = () => (this.signal.aborted ? process.exit(ExitCode.detached) : this.#controller.abort())

  constructor() {
    process.on('SIGINT', this.#listener)
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** As Ctrl-C does. */
  interrupt(): void {
    this.#controller.abort()
  }

  [Symbol.dispose](): void {
    process.off('SIGINT', this.#listener)
  }
}
