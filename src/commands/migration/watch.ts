// vmstore migration watch: comes back to a migration that is under way.

import { BaseCommand } from '../../cli/base-command.ts'
import { canHearKeys } from '../../cli/keys.ts'
import { migrationArgument } from '../../cli/migration-argument.ts'
import { displayFor, silentDisplay } from '../../cli/migration-display.ts'
import { reportOf } from '../../cli/migration-text.ts'
import { timeFlag } from '../../cli/sizes.ts'
import { canDraw } from '../../cli/terminal.ts'
import { Interruption, watch, watchKeys } from '../../cli/watching.ts'

export default class MigrationWatch extends BaseCommand {
  static override long = true
  static override summary = 'watch a migration until it is over'
  static override description =
    `As vmstore migrate shows it, from where it stands. Ctrl-C leaves it running (exit code 7). Of one that is over the report is
printed. Exit codes as of vmstore migrate: 0 done, 4 failed or cancelled and the source owns the disk, 5 failed and the
destination owns it, 6 the owner is not known here.`
  static override examples = [
    '<%= config.bin %> migration watch web01',
    '<%= config.bin %> migration watch 3f2a --json',
  ]
  static override args = { id: migrationArgument }
  static override flags = {
    'reconnect-for': timeFlag({
      description: 'how long to look for a daemon that went away (default 1m)',
      hidden: true,
    }),
  }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(MigrationWatch)
    const client = await this.connect(flags)
    using interruption = new Interruption()
    const { signal } = interruption
    const migration = await client.showMigration(args.id, signal)
    const isAtTerminal = !this.jsonEnabled() && canDraw(process.stderr) && canHearKeys(process.stdin)
    const keys = isAtTerminal ? watchKeys : ''
    const detach = isAtTerminal ? () => interruption.interrupt() : undefined
    const display = this.jsonEnabled() ? silentDisplay((line) => this.tell(line)) : displayFor(process.stderr, keys)
    const patienceMs = flags['reconnect-for'] ?? 60_000
    const view = await watch({
      client,
      migration,
      display,
      signal,
      patienceMs,
      detach,
      told: (event) => this.event(event),
    })
    this.event({ ...view, type: 'result' })
    this.log('%s', reportOf(view))
    return undefined
  }
}
