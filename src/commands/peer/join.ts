// vmstore peer join

import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'

export default class PeerJoin extends BaseCommand {
  static override summary = 'join the site that gave a token: both trust each other from then on'
  static override examples = ['<%= config.bin %> peer join TOKEN --name osaka']
  static override args = { token: Args.string({ description: 'what `peer invite` printed there', required: true }) }
  static override flags = {
    name: Flags.string({ description: 'what this site will call the other', helpValue: 'NAME' }),
  }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(PeerJoin)
    const client = await this.connect(flags)
    const peer = await client.join({ token: args.token, ...(flags.name !== undefined && { name: flags.name }) })
    return this.show(peer, `This site and ${peer.name} (${peer.fingerprint}) trust each other now.`)
  }
}
