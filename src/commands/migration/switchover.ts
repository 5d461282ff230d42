// vmstore migration switchover

import { Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { migrationArgument } from '../../cli/migration-argument.ts'
import { course, cutOffOf } from '../../cli/migration-text.ts'

export default class MigrationSwitchover extends BaseCommand {
  static override summary = 'let the destination take over now'
  static override description =
    `Say so when the machine is off, or was moved by hand: from this moment the source refuses its guest.
There is no way back but a move back.
Refused while a client works at the source: it has written and not flushed since, or may have, for vmstore was started again.`
  static override examples = ['<%= config.bin %> migration switchover 3f2a']
  static override args = { id: migrationArgument }
  static override flags = {
    force: Flags.boolean({ description: 'also while a client works at the source: it is cut off, and named' }),
  }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(MigrationSwitchover)
    const migration = await (await this.connect(flags)).switchover(args.id, { force: flags.force === true })
    const { state, generation } = migration
    const cutOff = cutOffOf(migration)
    const whom = cutOff === null ? '' : ` Cut off by --force: ${cutOff}.`
    return this.show(migration, `${course(migration)}: ${state}, generation ${generation}.${whom}`)
  }
}
