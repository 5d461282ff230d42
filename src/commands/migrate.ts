// vmstore migrate: asks for a migration, and watches it until it is over or the operator has seen enough.

import { resolve } from 'node:path'
import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { confirmed } from '../cli/confirm.ts'
import { refused, UsageError } from '../cli/errors.ts'
import { estimateText, foreseenText } from '../cli/estimate-text.ts'
import { ownerUnknown } from '../cli/follow.ts'
import { canHearKeys } from '../cli/keys.ts'
import { detached } from '../cli/migrate-outcome.ts'
import { displayFor, silentDisplay } from '../cli/migration-display.ts'
import { course, isOver, reportOf, wayBack } from '../cli/migration-text.ts'
import { rateFlag, timeFlag } from '../cli/sizes.ts'
import { canDraw } from '../cli/terminal.ts'
import { Interruption, watch, watchKeys } from '../cli/watching.ts'
import type { ControlClient, ToldMigrationEvent } from '../control/client.ts'
import type { ControlError } from '../control/errors.ts'
import {
  type EstimateView,
  type MigrateRequest,
  type MigrationView,
  migrationModes,
  sourcePolicies,
  switchoverModes,
} from '../control/types.ts'

/** How long a move waits to know what it will cost. */
const foreseeMs = 5000

export default class Migrate extends BaseCommand {
  static override long = true
  static override strict = false // Several disks.
  static override summary = 'move the disks of a running machine to another site, or from one'
  static override description =
    `Hybrid: the disk is copied while its machine works at the source, and then what was written meanwhile, until hardly anything
is left: then it is ready, and the machine may move. What is missing after switchover is fetched on demand, and copied.
Post-copy: nothing is copied before switchover. Pre-copy: switched over is only when all but the last moments has come.
Several disks pass together, at one moment: the first write to any of them at the destination takes all, and what is found
there is one cut through the writes of all.
Ctrl-C leaves the migration running (exit code 7); vmstore migration watch comes back to it, and so does the same command.
--switchover now is refused while a client works at the source, unless --force says that it may be cut off.
--source delete cannot be undone: it asks, or wants --yes.
Exit codes: 0 done, 2 usage, 3 refused and nothing changed, 4 failed or cancelled and the source owns the disk,
5 failed and the destination owns it, 6 the owner is not known here, 7 detached, 1 anything else.`
  static override examples = [
    {
      description: 'On the source: move web01 to the peer tokyo',
      command: '<%= config.bin %> migrate web01 --to tokyo',
    },
    {
      description: 'All disks of a machine, at one moment',
      command: '<%= config.bin %> migrate web01-root web01-data --to tokyo',
    },
    { description: 'On the destination: fetch it', command: '<%= config.bin %> migrate web01 --from osaka' },
    {
      description: 'The machine is off, and the network is shared',
      command: '<%= config.bin %> migrate web01 --to tokyo --switchover now --max-rate 50M',
    },
  ]

  static override args = {
    disk: Args.string({
      name: 'DISK...',
      description: 'the disk, by name; or several, which pass together',
      required: true,
    }),
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
      description: 'copy before switchover, after it, or both',
      options: [...migrationModes],
      default: 'hybrid',
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
    seed: Flags.string({
      description:
        "what the destination's site has already: a disk of it, or a raw image that it lends (serve --seed-folder)",
      helpValue: 'NAME|FILE',
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
    exec: Flags.string({
      description:
        'run here once the destination serves the disk, such as what moves the machine; if it fails, nothing is switched by it',
      helpValue: 'CMD',
      exclusive: ['detach', 'dry-run'],
    }),
    'dry-run': Flags.boolean({
      description: 'say what it would cost, or why it would be refused, and stop: nothing changes at either site',
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
    if (flags['dry-run']) return this.#sayCost(await this.connect(flags), request)
    if (request.source === 'delete' && !flags.yes) await confirmDeletion(request, !this.jsonEnabled())
    const client = await this.connect(flags)
    if (flags.detach) {
      const started = await this.#start(client, request, new AbortController().signal)
      return this.#finish(started, `Migration ${started.id} of ${course(started)} has begun; ${wayBack(started.id)}.`)
    }
    using interruption = new Interruption()
    const { signal } = interruption
    const foreseen = await foresee(client, request, signal)
    const migration = await this.#startOrAttach(client, request, flags.exec, signal)
    const isAtTerminal = !this.jsonEnabled() && canDraw(process.stderr) && canHearKeys(process.stdin)
    const keys = isAtTerminal ? watchKeys : ''
    const detach = isAtTerminal ? () => interruption.interrupt() : undefined
    const display = this.jsonEnabled() ? silentDisplay((line) => this.tell(line)) : displayFor(process.stderr, keys)
    const patienceMs = flags['reconnect-for'] ?? 60_000
    const told = (event: ToldMigrationEvent) => this.event(event)
    const view = await watch({ client, migration, display, signal, patienceMs, exec: flags.exec, detach, told })
    const report = foreseen ? `${reportOf(view)}\n${foreseenText(foreseen)}` : reportOf(view)
    return this.#finish(view, report, foreseen)
  }

  /**
   * A migration of these disks to that site that is under way is not begun again: a person comes back to it. A script, which has
   * said what terms it wants, is refused.
   */
  async #startOrAttach(
    client: ControlClient,
    request: MigrateRequest,
    exec: string | undefined,
    signal: AbortSignal,
  ): Promise<MigrationView> {
    try {
      return await this.#start(client, request, signal)
    } catch (error) {
      // What --exec runs has run perhaps, or is run by the command that began it.
      const mayAttach = exec === undefined && !this.jsonEnabled()
      if ((error as ControlError).code !== 'migrating' || !mayAttach) throw error
      const found = (await client.listMigrations(signal)).find((view) => isAskedFor(view, request))
      if (found === undefined) throw error
      this.tell(
        `Migration ${found.id} of ${course(found)} is under way already, as it was begun: this command watches it.`,
      )
      return found
    }
  }

  async #start(client: ControlClient, request: MigrateRequest, signal: AbortSignal): Promise<MigrationView> {
    try {
      return await client.migrate(request, signal)
    } catch (error) {
      const disk = disksOf(request).join(', ')
      if (signal.aborted) throw detached(disk, undefined, error)
      if ((error as ControlError).code !== 'daemon-lost') throw error
      throw ownerUnknown(disk, (error as ControlError).message, undefined, error)
    }
  }

  async #sayCost(client: ControlClient, request: MigrateRequest): Promise<void> {
    const estimate = await client.estimate(request)
    this.event({ ...estimate, type: 'result' })
    this.log('%s', estimateText(estimate))
  }

  /** `foreseen`: what was said of it before it began. */
  #finish(view: MigrationView, text: string, foreseen?: EstimateView): void {
    this.event({ ...view, ...(foreseen && { estimate: foreseen }), type: 'result' })
    this.log('%s', text)
  }
}

interface Asked {
  to?: string
  from?: string
  via?: string
  mode: MigrateRequest['mode']
  switchover: MigrateRequest['switchover']
  'switchover-wait'?: number
  'max-rate'?: number
  'stall-timeout'?: number
  seed?: string
  as?: string
  source: MigrateRequest['source']
  force?: boolean
}

/** What it will cost, to be told beside what it has cost. Nothing waits long for it, and nothing fails with it. */
async function foresee(
  client: ControlClient,
  request: MigrateRequest,
  signal: AbortSignal,
): Promise<EstimateView | undefined> {
  if (request.to === undefined) return undefined // It is said where the disk is.
  try {
    return await client.estimate(request, AbortSignal.any([signal, AbortSignal.timeout(foreseeMs)]))
  } catch {
    return undefined // Whatever is wrong, the move itself will say.
  }
}

/** The same disks, on their way to or from the same site. */
function isAskedFor({ disks, role, peer, state }: MigrationView, request: MigrateRequest): boolean {
  if (isOver(state)) return false
  const isSameSite = role === 'source' ? request.to === peer : request.from === peer
  const named = disksOf(request)
  return isSameSite && named.length === disks.length && disks.every(({ name }) => named.includes(name))
}

/** In the order in which the operator named them. */
const disksOf = ({ disk, disks }: MigrateRequest): readonly string[] => disks ?? [disk!]

function requestOf(disks: readonly string[], asked: Asked): MigrateRequest {
  const { to, from, via, mode, switchover, source } = asked
  const disk = disks.join(', ')
  const twice = disks.find((name, index) => disks.indexOf(name) !== index)
  if (twice !== undefined) throw new UsageError(`${twice} is named twice.`, 'Name each disk once.')
  if ([to, from, via].filter((side) => side !== undefined).length !== 1) {
    throw new UsageError('Say where the disk goes or comes from: exactly one of --to PEER, --from PEER and --via URL.')
  }
  if (via !== undefined) {
    const next = 'Use --to or --from with a peer that can be reached.'
    throw refused('not-yet', 'Moving a disk through an object store (--via) comes in a later version.', { disk, next })
  }
  if (asked.as !== undefined && disks.length > 1) {
    throw new UsageError('--as names one disk, and several are moved.', 'Move them under their own names.')
  }
  if (asked.force && switchover !== 'now') {
    const next = 'What waits for a busy source is switched over with vmstore migration switchover --force.'
    throw new UsageError('--force goes with --switchover now: it says that a client at work is cut off.', next)
  }
  return {
    ...(disks.length === 1 ? { disk: disks[0]! } : { disks: [...disks] }),
    ...(to !== undefined && { to }),
    ...(from !== undefined && { from }),
    mode,
    switchover,
    switchoverWaitMs: asked['switchover-wait'] ?? 10_000,
    ...(asked['max-rate'] !== undefined && { maxRate: asked['max-rate'] }),
    ...(asked['stall-timeout'] !== undefined && { stallTimeoutMs: asked['stall-timeout'] }),
    ...(asked.seed !== undefined && { seed: seedFrom(asked.seed, from) }),
    ...(asked.as !== undefined && { as: asked.as }),
    source,
    ...(asked.force && { force: true }),
  }
}

/** With --from the destination is here, and so is the file. */
function seedFrom(seed: string, from: string | undefined): string {
  return from !== undefined && seed.includes('/') ? resolve(seed) : seed
}

/** The source's bytes are what a way back would spare sending, and the last copy should the destination be lost. */
async function confirmDeletion(request: MigrateRequest, mayAsk: boolean): Promise<void> {
  const { from } = request
  const disks = disksOf(request)
  const disk = disks.join(', ')
  const where = from === undefined ? 'this site' : from
  const message = `Moving ${disk} with --source delete removes ${disks.length > 1 ? 'their' : 'its'} bytes at ${where} for good, once the destination has every block.`
  const next = 'Say so with --yes, or keep them with --source keep.'
  const warning = refused('not-confirmed', message, { disk, next })
  const isAsked = mayAsk && process.stdin.isTTY
  if (!isAsked || !(await confirmed(warning.view, disk, process.stdin, process.stderr))) throw warning
}
