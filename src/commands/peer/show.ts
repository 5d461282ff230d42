// vmstore peer show

import { BaseCommand } from '../../cli/base-command.ts'
import { facts } from '../../cli/table.ts'

export default class PeerShow extends BaseCommand {
  static override summary = 'show who this site is to its peers'
  static override examples = ['<%= config.bin %> peer show']

  async run(): Promise<unknown> {
    const { flags } = await this.parse(PeerShow)
    const site = await (await this.connect(flags)).describe()
    const { name, id, fingerprint, peer } = site
    return this.show(
      site,
      facts({ name, id, fingerprint, address: peer ?? 'none: this site does not listen for peers' }),
    )
  }
}
