// vmstore migration switchover

import { Args } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { course } from '../../cli/migration-text.ts'

export default class MigrationSwitchover extends BaseCommand {
  static override summary = 'let the destination take over now'
  static override description =
    `Say so when the machine is off, or was moved by hand: from this moment the source refuses its guest.
There is no way back but a move back.`
  static override examples = ['<%= config.bin %> migration switchover 3f2a']
  static override args = { id: Args.string({ description: 'its id, or the beginning of it', required: true }) }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(MigrationSwitchover)
    const migration = await (await this.connect(flags)).switchover(args.id)
    const { state, generation } = migration
    return this.show(migration, `${course(migration)}: ${state}, generation ${generation}.`)
  }
}
