// vmstore migration show

import { BaseCommand } from '../../cli/base-command.ts'
import { migrationArgument } from '../../cli/migration-argument.ts'
import { detailsOf } from '../../cli/migration-text.ts'

export default class MigrationShow extends BaseCommand {
  static override summary = 'show a migration: where it stands and what it waits for'
  static override examples = ['<%= config.bin %> migration show 3f2a']
  static override args = { id: migrationArgument }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(MigrationShow)
    const migration = await (await this.connect(flags)).showMigration(args.id)
    return this.show(migration, detailsOf(migration))
  }
}
