// vmstore migration cancel

import { Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { migrationArgument } from '../../cli/migration-argument.ts'
import { course } from '../../cli/migration-text.ts'

export default class MigrationCancel extends BaseCommand {
  static override summary = 'end a migration before switchover; the source owns the disk as before'
  static override description =
    `The source alone decides, so that it must answer. After switchover there is no cancel, only a move back.`
  static override examples = ['<%= config.bin %> migration cancel 3f2a']
  static override args = { id: migrationArgument }
  static override flags = {
    force: Flags.boolean({
      description: 'forget it here though the other site does not answer; it may keep what it has',
    }),
  }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(MigrationCancel)
    const migration = await (await this.connect(flags)).cancel(args.id, { force: flags.force === true })
    return this.show(migration, `The migration of ${course(migration)} is ${migration.state}.`)
  }
}
