// vmstore peer list

import { BaseCommand } from '../../cli/base-command.ts'
import { peerHeader, peerRow } from '../../cli/peer-text.ts'
import { table } from '../../cli/table.ts'

export default class PeerList extends BaseCommand {
  static override summary = 'list the sites that this one trusts'
  static override examples = ['<%= config.bin %> peer list']

  async run(): Promise<unknown> {
    const { flags } = await this.parse(PeerList)
    const peers = await (await this.connect(flags)).listPeers()
    return this.show(
      peers,
      table(peerHeader, peers.map(peerRow), 'There are no peers: `vmstore peer invite` makes one.'),
    )
  }
}
