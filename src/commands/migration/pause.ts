// vmstore migration pause

import { BaseCommand } from '../../cli/base-command.ts'
import { migrationArgument } from '../../cli/migration-argument.ts'
import { course } from '../../cli/migration-text.ts'

export default class MigrationPause extends BaseCommand {
  static override summary = 'hold the background copy; what the guest reads is fetched all the same'
  static override description =
    `Lasts until it is resumed, across restarts of either site. No guest waits for it: reads are fetched, writes are taken,
and the first write at the destination switches over as before.`
  static override examples = ['<%= config.bin %> migration pause 3f2a']
  static override args = { id: migrationArgument }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(MigrationPause)
    const migration = await (await this.connect(flags)).pause(args.id)
    return this.show(migration, `The migration of ${course(migration)} is paused.`)
  }
}
