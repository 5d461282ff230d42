// vmstore peer remove

import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { asMeant, canAsk } from '../../cli/confirm.ts'
import { refused } from '../../cli/errors.ts'

export default class PeerRemove extends BaseCommand {
  static override summary = 'trust a site no more'
  static override description =
    `Refused while a disk is on its way to or from it. --force ends these migrations here, without that site's answer: before
switchover its source owns the disk; after it the destination does. What exists only at one of the two stays there, and is named.
At a terminal it asks, unless --yes says it.`
  static override examples = ['<%= config.bin %> peer remove tokyo']
  static override args = { name: Args.string({ description: 'name of the peer', required: true }) }
  static override flags = {
    yes: Flags.boolean({ description: 'do not ask: the two sites would have to be paired anew' }),
    force: Flags.boolean({
      description: 'also while disks are on their way: their migrations end here, as far as they are',
    }),
  }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(PeerRemove)
    const client = await this.connect(flags)
    if (!flags.yes && !this.jsonEnabled() && canAsk()) {
      const { name, fingerprint } = await client.showPeer(args.name)
      const message = `${name} (${fingerprint}) is to be trusted no more: the two sites would have to be paired anew.`
      await asMeant(refused('not-confirmed', message, { next: 'Say so with --yes.' }), name)
    }
    if (!flags.force) {
      const peer = await client.removePeer(args.name)
      return this.show(peer, `${peer.name} is trusted no more by this site.`)
    }
    const peer = await client.removePeerByForce(args.name)
    return this.show(peer, [`${peer.name} is trusted no more by this site.`, ...peer.stranded].join('\n'))
  }
}
