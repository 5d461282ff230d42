// vmstore migration set

import { Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { UsageError } from '../../cli/errors.ts'
import { migrationArgument } from '../../cli/migration-argument.ts'
import { course } from '../../cli/migration-text.ts'
import { formatRate, parseRate } from '../../cli/sizes.ts'

/** Of --max-rate. */
const noBound = 'none'

export default class MigrationSet extends BaseCommand {
  static override summary = 'change what bounds a migration while it goes on'
  static override description =
    `Holds from now on, also after a restart of either site, wherever it is said. What the guest reads is never bounded.`
  static override examples = [
    '<%= config.bin %> migration set web01 --max-rate 20M',
    '<%= config.bin %> migration set web01 --max-rate none',
  ]
  static override args = { id: migrationArgument }
  static override flags = {
    'max-rate': Flags.string({
      description: `bound of the background copy, bytes a second, such as 50M; or ${noBound}`,
      helpValue: 'RATE',
    }),
  }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(MigrationSet)
    const said = flags['max-rate']
    if (said === undefined) throw new UsageError('Say what is to change: --max-rate RATE.')
    const maxRate = said === noBound ? null : parseRate(said)
    const migration = await (await this.connect(flags)).setMigration(args.id, { maxRate })
    const bound = maxRate === null ? 'without a bound' : `at ${formatRate(maxRate)} at most`
    return this.show(migration, `The migration of ${course(migration)} copies ${bound} from now on.`)
  }
}
