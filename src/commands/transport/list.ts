// vmstore transport list: the drivers that plugins bring.

import { BaseCommand } from '../../cli/base-command.ts'
import { table } from '../../cli/table.ts'
import type { TransportDriver } from '../../transport/contract.ts'

export default class TransportList extends BaseCommand {
  static override summary = 'list the transports that are installed'
  static override examples = ['<%= config.bin %> transport list']

  async run(): Promise<unknown> {
    await this.parse(TransportList)
    const { successes, failures } = await this.config.runHook('vmstore:transports', {})
    for (const { plugin, error } of failures) this.tell(`The plugin ${plugin.name} failed: ${error.message}`)
    const transports = successes.flatMap(({ plugin, result }) =>
      ((result ?? []) as TransportDriver[]).map(({ schemes, kind, contractVersion }) => ({
        schemes,
        kind,
        contractVersion,
        plugin: plugin.name,
        version: plugin.version,
      })),
    )
    const rows = transports.map(({ schemes, kind, plugin, version }) => [
      schemes.join(', '),
      kind,
      `${plugin} ${version}`,
    ])
    return this.show(transports, table(['scheme', 'kind', 'plugin'], rows, 'No plugin brings a transport.'))
  }
}
