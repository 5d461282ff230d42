// vmstore peer invite

import { Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { getSetting } from '../../cli/config.ts'

export default class PeerInvite extends BaseCommand {
  static override summary = 'print a token with which another site joins'
  static override description =
    `The token holds an address, the fingerprint of this site's key, and a secret that works once.
Give it to the other site's operator by a way that you trust, and to nobody else.`
  static override examples = [
    '<%= config.bin %> peer invite',
    '<%= config.bin %> peer invite --address tcp://a.example.org:10810 --name tokyo',
  ]
  static override flags = {
    address: Flags.string({ description: 'where the other site reaches this one', helpValue: 'URL' }),
    name: Flags.string({ description: 'what this site will call the other', helpValue: 'NAME' }),
  }

  async run(): Promise<unknown> {
    const { flags } = await this.parse(PeerInvite)
    const address = flags.address ?? (await getSetting('peer.address'))?.toString()
    const client = await this.connect(flags)
    const invite = await client.invite({
      ...(address !== undefined && { address }),
      ...(flags.name !== undefined && { name: flags.name }),
    })
    if (!this.jsonEnabled())
      this.tell(`For ${invite.address}, once, until ${invite.expiresAt}: vmstore peer join TOKEN`)
    return this.show(invite, invite.token)
  }
}
