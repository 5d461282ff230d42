// vmstore disk delete

import { Args } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'

export default class DiskDelete extends BaseCommand {
  static override summary = 'delete a disk and its bytes'
  static override description = 'Refused while a client is attached, or while the disk is on its way.'
  static override examples = ['<%= config.bin %> disk delete web01']
  static override args = { name: Args.string({ description: 'name or id of the disk', required: true }) }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(DiskDelete)
    const disk = await (await this.connect(flags)).deleteDisk(args.name)
    return this.show(disk, `${disk.name} has been deleted.`)
  }
}
