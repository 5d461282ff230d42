// vmstore migration list

import { Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { isOver, migrationHeader, migrationRow } from '../../cli/migration-text.ts'
import { timeFlag } from '../../cli/sizes.ts'
import { table } from '../../cli/table.ts'

export default class MigrationList extends BaseCommand {
  static override summary = 'list the migrations that this site knows'
  static override examples = [
    '<%= config.bin %> migration list',
    '<%= config.bin %> migration list --active',
    '<%= config.bin %> migration list --since 1d',
  ]
  static override flags = {
    active: Flags.boolean({ description: 'only those that are under way' }),
    since: timeFlag({ description: 'only those that ended, or went on, in the last so long, such as 1d or 12h' }),
  }

  async run(): Promise<unknown> {
    const { flags } = await this.parse(MigrationList)
    const all = await (await this.connect(flags)).listMigrations()
    const fromMs = flags.since === undefined ? 0 : Date.now() - flags.since
    const migrations = all
      .filter(({ state }) => !flags.active || !isOver(state))
      .filter(({ endedAt }) => endedAt === null || Date.parse(endedAt) >= fromMs)
    const none = all.length === 0 ? 'There are no migrations here.' : 'There are no such migrations here.'
    return this.show(migrations, table(migrationHeader, migrations.map(migrationRow), none))
  }
}
