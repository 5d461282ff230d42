// vmstore peer remove

import { Args } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'

export default class PeerRemove extends BaseCommand {
  static override summary = 'trust a site no more'
  static override description = 'Refused while a disk is on its way to or from it.'
  static override examples = ['<%= config.bin %> peer remove tokyo']
  static override args = { name: Args.string({ description: 'name of the peer', required: true }) }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(PeerRemove)
    const peer = await (await this.connect(flags)).removePeer(args.name)
    return this.show(peer, `${peer.name} is trusted no more by this site.`)
  }
}
