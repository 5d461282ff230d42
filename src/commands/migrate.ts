// vmstore migrate: asks for a migration, and watches it until it is over or the operator has seen enough.

import { setTimeout as sleep } from 'node:timers/promises'
import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { confirmed } from '../cli/confirm.ts'
import { refused, UsageError } from '../cli/errors.ts'
import { follow, ownerUnknown } from '../cli/follow.ts'
import { type Display, displayFor, silentDisplay } from '../cli/migration-display.ts'
import { course, reportOf, wayBack } from '../cli/migration-text.ts'
import { rateFlag, timeFlag } from '../cli/sizes.ts'
import { asSentence } from '../cli/standing-text.ts'
import type { ControlClient } from '../control/client.ts'
import { ControlError } from '../control/errors.ts'
import {
  ExitCode,
  type MigrateRequest,
  type MigrationView,
  migrationModes,
  sourcePolicies,
  switchoverModes,
} from '../control/types.ts'

const clock = {
  nowMs: () => performance.now(),
  sleep: (ms: number, signal: AbortSignal) => sleep(ms, undefined, { signal }),
}

export default class Migrate extends BaseCommand {
  static override long = true
  static override strict = false // Several disks are understood, and refused with a sentence.
  static override summary = 'move the disk of a running machine to another site, or from one'
  static override description =
    `Post-copy: the destination serves the disk at once, fetches what it lacks on demand, and copies the rest.
Ctrl-C leaves the migration running (exit code 7).
--switchover now is refused while a client works at the source, unless --force says that it may be cut off.
--source delete cannot be undone: it asks, or wants --yes.
Exit codes: 0 done, 2 usage, 3 refused and nothing changed, 4 failed or cancelled and the source owns the disk,
5 failed and the destination owns it, 6 the owner is not known here, 7 detached, 1 anything else.`
  static override examples = [
    {
      description: 'On the source: move web01 to the peer tokyo',
      command: '<%= config.bin %> migrate web01 --to tokyo',
    },
    { description: 'On the destination: fetch it', command: '<%= config.bin %> migrate web01 --from osaka' },
    {
      description: 'The machine is off, and the network is shared',
      command: '<%= config.bin %> migrate web01 --to tokyo --switchover now --max-rate 50M',
    },
  ]

  static override args = {
    disk: Args.string({ description: 'the disk, by name', required: true }),
  }

  static override flags = {
    to: Flags.string({ description: 'peer that the disk goes to', helpValue: 'PEER' }),
    from: Flags.string({ description: 'peer that the disk comes from', helpValue: 'PEER' }),
    as: Flags.string({
      description: 'what the destination calls the disk (default: its name here)',
      helpValue: 'NAME',
    }),
    via: Flags.string({
      description: 'object store between two sites that cannot meet (comes later)',
      helpValue: 'URL',
    }),
    mode: Flags.string({
      description: 'copy before or after switchover',
      options: [...migrationModes],
      default: 'post-copy',
    }),
    switchover: Flags.string({
      description: "when the destination takes over: at its guest's first write, at once, or when told",
      options: [...switchoverModes],
      default: 'auto',
    }),
    'switchover-wait': timeFlag({
      description: 'how long a write at the destination waits for a busy source (default 10s)',
    }),
    'max-rate': rateFlag({ description: 'bound of the background copy, bytes a second, such as 50M' }),
    'stall-timeout': timeFlag({
      description: "how long a guest's read waits for a source that is away before it fails (default: for ever)",
    }),
    source: Flags.string({
      description: "the source's bytes afterwards: keep them for the way back, or delete them",
      options: [...sourcePolicies],
      default: 'keep',
    }),
    yes: Flags.boolean({
      description: "with --source delete: the source's bytes may go, once the destination has every block",
    }),
    force: Flags.boolean({
      description: 'with --switchover now: also while a client works at the source, which is cut off, and named',
    }),
    detach: Flags.boolean({ description: 'start the migration and return (exit code 0)' }),
    'reconnect-for': timeFlag({
      description: 'how long to look for a daemon that went away (default 1m)',
      hidden: true,
    }),
  }

  async run(): Promise<unknown> {
    const { argv, flags } = await this.parse(Migrate)
    const request = requestOf(argv as string[], flags as Asked)
    if (request.source === 'delete' && !flags.yes) await confirmDeletion(request, !this.jsonEnabled())
    const client = await this.connect(flags)
    const interrupt = new AbortController()
    // Stays registered: the screen's own listener ends the process when it finds itself alone.
    const onInterrupt = () => (interrupt.signal.aborted ? process.exit(ExitCode.detached) : interrupt.abort())
    if (!flags.detach) process.on('SIGINT', onInterrupt)
    try {
      const started = await this.#start(client, request, interrupt.signal)
      if (flags.detach)
        return this.#finish(started, `Migration ${started.id} of ${course(started)} has begun; ${wayBack(started.id)}.`)
      const display = this.jsonEnabled() ? silentDisplay((line) => this.tell(line)) : displayFor(process.stderr)
      const patienceMs = flags['reconnect-for'] ?? 60_000
      const view = await this.#watch({ client, started, display, signal: interrupt.signal, patienceMs })
      return this.#finish(view, reportOf(view))
    } finally {
      process.off('SIGINT', onInterrupt)
    }
  }

  async #start(client: ControlClient, request: AskedMove, signal: AbortSignal): Promise<MigrationView> {
    try {
      return await client.migrate(request, signal)
    } catch (error) {
      if (signal.aborted) throw detached(request.disk, undefined, error)
      if ((error as ControlError).code !== 'daemon-lost') throw error
      throw ownerUnknown(request.disk, (error as ControlError).message, undefined, error)
    }
  }

  async #watch(options: {
    client: ControlClient
    started: MigrationView
    display: Display
    signal: AbortSignal
    patienceMs: number
  }): Promise<MigrationView> {
    const { client, started, display, signal, patienceMs } = options
    const { id, disk } = started
    const tell = (sentence: string) => display.tell(sentence)
    try {
      for await (const event of follow({ client, id, disk, signal, patienceMs, clock, tell })) {
        display.show(event)
        if (event.type !== 'result') this.event(event)
        else if (event.state !== 'done') throw unfinished(event)
        else {
          await display.end('done')
          return event
        }
      }
      throw ownerUnknown(disk, `The daemon fell silent about the migration of ${disk}.`, id, undefined)
    } catch (error) {
      await display.end(signal.aborted ? 'detached' : 'failed')
      throw signal.aborted ? detached(disk, id, error) : error
    }
  }

  #finish(view: MigrationView, text: string): void {
    this.event({ ...view, type: 'result' })
    this.log('%s', text)
  }
}

/** Of one disk. */
type AskedMove = MigrateRequest & { readonly disk: string }

interface Asked {
  to?: string
  from?: string
  via?: string
  as?: string
  mode: MigrateRequest['mode']
  switchover: MigrateRequest['switchover']
  'switchover-wait'?: number
  'max-rate'?: number
  'stall-timeout'?: number
  source: MigrateRequest['source']
  force?: boolean
}

function requestOf(disks: readonly string[], asked: Asked): AskedMove {
  const { to, from, via, mode, switchover, source } = asked
  const disk = disks[0]!
  if ([to, from, via].filter((side) => side !== undefined).length !== 1) {
    throw new UsageError('Say where the disk goes or comes from: exactly one of --to PEER, --from PEER and --via URL.')
  }
  if (disks.length > 1) {
    const next = `Move them one by one, beginning with vmstore migrate ${disk}.`
    throw refused('not-yet', 'Moving several disks in one switchover comes in a later version.', { next })
  }
  if (via !== undefined) {
    const next = 'Use --to or --from with a peer that can be reached.'
    throw refused('not-yet', 'Moving a disk through an object store (--via) comes in a later version.', { disk, next })
  }
  if (mode !== 'post-copy') {
    throw refused('not-yet', `The mode ${mode} comes in a later version.`, { disk, next: 'Use --mode post-copy.' })
  }
  if (asked.force && switchover !== 'now') {
    const next = 'What waits for a busy source is switched over with vmstore migration switchover --force.'
    throw new UsageError('--force goes with --switchover now: it says that a client at work is cut off.', next)
  }
  return {
    disk,
    ...(to !== undefined && { to }),
    ...(from !== undefined && { from }),
    ...(asked.as !== undefined && { as: asked.as }),
    mode,
    switchover,
    switchoverWaitMs: asked['switchover-wait'] ?? 10_000,
    ...(asked['max-rate'] !== undefined && { maxRate: asked['max-rate'] }),
    ...(asked['stall-timeout'] !== undefined && { stallTimeoutMs: asked['stall-timeout'] }),
    source,
    ...(asked.force && { force: true }),
  }
}

/** The source's bytes are what a way back would spare sending, and the last copy should the destination be lost. */
async function confirmDeletion({ disk, from }: AskedMove, mayAsk: boolean): Promise<void> {
  const where = from === undefined ? 'this site' : from
  const message = `Moving ${disk} with --source delete removes its bytes at ${where} for good, once the destination has every block.`
  const next = 'Say so with --yes, or keep them with --source keep.'
  const warning = refused('not-confirmed', message, { disk, next })
  const isAsked = mayAsk && process.stdin.isTTY
  if (!isAsked || !(await confirmed(warning.view, disk, process.stdin, process.stderr))) throw warning
}

function detached(disk: string, id: string | undefined, cause: unknown): ControlError {
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
function unfinished(view: MigrationView): ControlError {
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
