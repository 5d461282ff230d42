// vmstore migration list

import { BaseCommand } from '../../cli/base-command.ts'
import { migrationHeader, migrationRow } from '../../cli/migration-text.ts'
import { table } from '../../cli/table.ts'

export default class MigrationList extends BaseCommand {
  static override summary = 'list the migrations that this site knows'
  static override examples = ['<%= config.bin %> migration list']

  async run(): Promise<unknown> {
    const { flags } = await this.parse(MigrationList)
    const migrations = await (await this.connect(flags)).listMigrations()
    return this.show(migrations, table(migrationHeader, migrations.map(migrationRow), 'There are no migrations here.'))
  }
}
