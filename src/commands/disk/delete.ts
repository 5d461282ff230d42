// vmstore disk delete

import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { asMeant, canAsk } from '../../cli/confirm.ts'
import { refused } from '../../cli/errors.ts'
import { formatSize } from '../../cli/sizes.ts'

export default class DiskDelete extends BaseCommand {
  static override summary = 'delete a disk and its bytes'
  static override description =
    'Refused while a client is attached, or while the disk is on its way. At a terminal it asks, unless --yes says it.'
  static override examples = ['<%= config.bin %> disk delete web01']
  static override args = { name: Args.string({ description: 'name or id of the disk', required: true }) }
  static override flags = { yes: Flags.boolean({ description: 'do not ask: the bytes may go' }) }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(DiskDelete)
    const client = await this.connect(flags)
    if (!flags.yes && !this.jsonEnabled() && canAsk()) {
      const { name, size, state } = await client.showDisk(args.name)
      const message = `${name} (${formatSize(size)}, ${state}) and its bytes at this site go for good.`
      await asMeant(refused('not-confirmed', message, { disk: name, next: 'Say so with --yes.' }), name)
    }
    const disk = await client.deleteDisk(args.name)
    return this.show(disk, `${disk.name} has been deleted.`)
  }
}
