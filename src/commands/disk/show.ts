// vmstore disk show

import { Args } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { diskFacts } from '../../cli/disk-text.ts'

export default class DiskShow extends BaseCommand {
  static override summary = 'show a disk: its state, its generation, who owns it, what is here of it'
  static override examples = ['<%= config.bin %> disk show web01']
  static override args = { name: Args.string({ description: 'name or id of the disk', required: true }) }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(DiskShow)
    const disk = await (await this.connect(flags)).showDisk(args.name)
    return this.show(disk, diskFacts(disk))
  }
}
