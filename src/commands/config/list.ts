// vmstore config list

import { BaseCommand } from '../../cli/base-command.ts'
import { listSettings } from '../../cli/config.ts'
import { table } from '../../cli/table.ts'

export default class ConfigList extends BaseCommand {
  static override summary = 'list the settings; secrets are not shown'
  static override examples = ['<%= config.bin %> config list']

  async run(): Promise<unknown> {
    await this.parse(ConfigList)
    const settings = await listSettings()
    const rows = Object.entries(settings).map(([key, value]) => [key, String(value)])
    return this.show(settings, table(['key', 'value'], rows, 'Nothing is set.'))
  }
}
