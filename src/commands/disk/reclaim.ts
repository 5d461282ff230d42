// vmstore disk reclaim

import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { askedFirst } from '../../cli/confirm.ts'

export default class DiskReclaim extends BaseCommand {
  static override summary = 'take back a disk that has departed, because the destination is lost for good'
  static override description =
    `Refused while the destination answers, and when any peer has a deed of the disk that goes further than this site's. All
that was written there since switchover is lost. Should that site come back, it learns that its generation is void, serves
the disk to nobody, and keeps its bytes.
Two guests on one disk destroy each other's data: be sure that the guest there is off. Asks, or wants --yes.`
  static override examples = ['<%= config.bin %> disk reclaim web01']
  static override args = { name: Args.string({ description: 'name or id of the disk', required: true }) }
  static override flags = {
    yes: Flags.boolean({ description: 'the guest at the destination is off, and what it wrote there may be lost' }),
  }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(DiskReclaim)
    const client = await this.connect(flags)
    const ask = (confirmed: boolean) => client.reclaimDisk(args.name, { confirmed })
    const disk = flags.yes ? await ask(true) : await askedFirst(ask, args.name, !this.jsonEnabled())
    const unknown = disk.notAsked.length === 0 ? '' : `\nCould not be asked for its deed: ${disk.notAsked.join(', ')}.`
    return this.show(disk, `${disk.name} is ${disk.state} here again, as generation ${disk.generation}.${unknown}`)
  }
}
