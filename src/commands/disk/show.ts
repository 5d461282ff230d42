// vmstore disk show

import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { deedTable, ownerText } from '../../cli/deed-text.ts'
import { diskFacts } from '../../cli/disk-text.ts'

export default class DiskShow extends BaseCommand {
  static override summary = 'show a disk: its state, its generation, who owns it, what is here of it'
  static override description =
    `With --deed, who gave it to whom, when and in which move: a chain of entries, each signed by the site that gave.
The JSON of that can be kept, and checked anywhere: vmstore deed verify FILE.`
  static override examples = [
    '<%= config.bin %> disk show web01',
    '<%= config.bin %> disk show web01 --deed',
    '<%= config.bin %> disk show web01 --deed --json > web01.deed.json',
  ]
  static override args = { name: Args.string({ description: 'name or id of the disk', required: true }) }
  static override flags = { deed: Flags.boolean({ description: 'its deed' }) }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(DiskShow)
    const client = await this.connect(flags)
    if (flags.deed) {
      const deed = await client.diskDeed(args.name)
      return this.show(deed, `${deedTable(deed.entries, deed.names)}\n\n${ownerText(deed.entries, deed.names)}`)
    }
    const disk = await client.showDisk(args.name)
    return this.show(disk, diskFacts(disk))
  }
}
