// vmstore peer show

import { Args } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { peerText } from '../../cli/peer-text.ts'
import { facts } from '../../cli/table.ts'

export default class PeerShow extends BaseCommand {
  static override summary = 'show what a peer may here; without a name, who this site is to its peers'
  static override examples = ['<%= config.bin %> peer show tokyo', '<%= config.bin %> peer show']
  static override args = { name: Args.string({ description: 'name of the peer' }) }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(PeerShow)
    const client = await this.connect(flags)
    if (args.name !== undefined) {
      const peer = await client.showPeer(args.name)
      return this.show(peer, peerText(peer))
    }
    const site = await client.describe()
    const { name, id, fingerprint, peer } = site
    return this.show(
      site,
      facts({ name, id, fingerprint, address: peer ?? 'none: this site does not listen for peers' }),
    )
  }
}
