// vmstore transport list: the drivers that plugins bring.

import { BaseCommand } from '../../cli/base-command.ts'
import { table } from '../../cli/table.ts'
import { contractVersion, type TransportDriver } from '../../transport/contract.ts'

export default class TransportList extends BaseCommand {
  static override summary = 'list the transports that are installed'
  static override examples = ['<%= config.bin %> transport list']

  async run(): Promise<unknown> {
    await this.parse(TransportList)
    const { successes, failures } = await this.config.runHook('vmstore:transports', {})
    for (const { plugin, error } of failures) this.tell(`The plugin ${plugin.name} failed: ${error.message}`)
    const transports = successes.flatMap(({ plugin, result }) =>
      offersOf(result).map((offer) => ({ ...offer, plugin: plugin.name, version: plugin.version })),
    )
    const rows = transports.map(({ schemes, kind, contractVersion: other, usable, plugin, version }) => {
      const note = usable ? '' : `, unusable: it keeps contract version ${other}, and this vmstore ${contractVersion}`
      return [schemes.join(', '), kind, `${plugin} ${version}${note}`]
    })
    return this.show(transports, table(['scheme', 'kind', 'plugin'], rows, 'No plugin brings a transport.'))
  }
}

interface Offer {
  readonly schemes: readonly string[]
  readonly kind: string
  readonly contractVersion: number
  /** By a daemon of this vmstore. */
  readonly usable: boolean
}

/** Of whatever a plugin answered. One of another version of the contract may have any shape. */
function offersOf(result: unknown): Offer[] {
  const drivers = [result ?? []].flat() as Partial<TransportDriver>[]
  return drivers
    .filter((driver) => typeof driver === 'object' && driver !== null)
    .map((driver) => {
      const { schemes, kind, contractVersion: version } = driver
      return {
        schemes: Array.isArray(schemes) ? schemes.map(String) : [],
        kind: String(kind ?? ''),
        contractVersion: Number(version),
        usable: version === contractVersion,
      }
    })
}
