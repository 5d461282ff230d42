// vmstore disk accept

import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { askedFirst } from '../../cli/confirm.ts'

export default class DiskAccept extends BaseCommand {
  static override summary = 'have a disk served as before after a sync of it failed, or its host lost its power'
  static override description =
    `What was flushed before is safe; what was written after the last answered flush may be lost.
After a failed sync, all that can be read now is written anew and synced first; while that fails, the disk stays as it is.
Mend the storage and check the disk before. Asks, or wants --yes.`
  static override examples = ['<%= config.bin %> disk accept web01']
  static override args = { name: Args.string({ description: 'name or id of the disk', required: true }) }
  static override flags = {
    yes: Flags.boolean({ description: 'the disk was checked, and what was not flushed may be lost' }),
  }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(DiskAccept)
    const client = await this.connect(flags)
    const ask = (confirmed: boolean) => client.acceptDisk(args.name, { confirmed })
    const disk = flags.yes ? await ask(true) : await askedFirst(ask, args.name, !this.jsonEnabled())
    return this.show(disk, `${disk.name} is accepted as it is: it is served, and takes writes.`)
  }
}
