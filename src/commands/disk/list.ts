// vmstore disk list

import { BaseCommand } from '../../cli/base-command.ts'
import { disksText } from '../../cli/disk-text.ts'

export default class DiskList extends BaseCommand {
  static override summary = 'list the disks of this site'
  static override examples = ['<%= config.bin %> disk list', '<%= config.bin %> disk list --json']

  async run(): Promise<unknown> {
    const { flags } = await this.parse(DiskList)
    const disks = await (await this.connect(flags)).listDisks()
    return this.show(disks, disksText(disks, 'There are no disks here.'))
  }
}
