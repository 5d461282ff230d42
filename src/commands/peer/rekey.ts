// vmstore peer rekey

import { Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { askedFirst } from '../../cli/confirm.ts'
import { rekeyText } from '../../cli/peer-text.ts'

export default class PeerRekey extends BaseCommand {
  static override summary = 'give this site a new key, which its peers know it by from then on'
  static override description =
    `The old key signs the new one over to each peer, and the deeds of the disks of this site with it.
Refused while a move is under way. A peer that is away cannot be told: --force goes on all the same, and it has to be paired
anew. A key that is replaced in any other way makes another site, which owns none of these disks.
Guests are served meanwhile. Asks, or wants --yes.`
  static override examples = ['<%= config.bin %> peer rekey', '<%= config.bin %> peer rekey --force --yes']
  static override flags = {
    force: Flags.boolean({ description: 'also when peers are away, which have to be paired anew then' }),
    yes: Flags.boolean({ description: 'this site is to have another key' }),
  }

  async run(): Promise<unknown> {
    const { flags } = await this.parse(PeerRekey)
    const client = await this.connect(flags)
    const ask = (confirmed: boolean) => client.rekey({ confirmed, ...(flags.force && { force: true }) })
    const renewed = flags.yes ? await ask(true) : await askedFirst(ask, 'rekey', !this.jsonEnabled())
    return this.show(renewed, rekeyText(renewed))
  }
}
