// vmstore migration resume

import { BaseCommand } from '../../cli/base-command.ts'
import { migrationArgument } from '../../cli/migration-argument.ts'
import { course } from '../../cli/migration-text.ts'

export default class MigrationResume extends BaseCommand {
  static override summary = 'let a paused background copy go on where it was'
  static override examples = ['<%= config.bin %> migration resume 3f2a']
  static override args = { id: migrationArgument }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(MigrationResume)
    const migration = await (await this.connect(flags)).resume(args.id)
    return this.show(migration, `The migration of ${course(migration)} goes on.`)
  }
}
