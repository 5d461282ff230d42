// vmstore peer remove

import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'

export default class PeerRemove extends BaseCommand {
  static override summary = 'trust a site no more'
  static override description =
    `Refused while a disk is on its way to or from it. --force ends these migrations here, without that site's answer: before
switchover its source owns the disk; after it the destination does. What exists only at one of the two stays there, and is named.`
  static override examples = ['<%= config.bin %> peer remove tokyo']
  static override args = { name: Args.string({ description: 'name of the peer', required: true }) }
  static override flags = {
    force: Flags.boolean({
      description: 'also while disks are on their way: their migrations end here, as far as they are',
    }),
  }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(PeerRemove)
    const client = await this.connect(flags)
    if (!flags.force) {
      const peer = await client.removePeer(args.name)
      return this.show(peer, `${peer.name} is trusted no more by this site.`)
    }
    const peer = await client.removePeerByForce(args.name)
    return this.show(peer, [`${peer.name} is trusted no more by this site.`, ...peer.stranded].join('\n'))
  }
}
