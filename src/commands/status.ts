// vmstore status: the site at a glance.

import { BaseCommand } from '../cli/base-command.ts'
import { countText, diskHeader, diskRow, troublesText } from '../cli/disk-text.ts'
import { migrationHeader, migrationRow } from '../cli/migration-text.ts'
import { peerHeader, peerRow, reachedText } from '../cli/peer-text.ts'
import { deadlinesText, doorHeader, doorRow } from '../cli/session-text.ts'
import { facts, table } from '../cli/table.ts'
import type { StatusView } from '../control/types.ts'

export default class Status extends BaseCommand {
  static override summary = 'show this site: its addresses, disks, peers and migrations'
  static override examples = ['<%= config.bin %> status', '<%= config.bin %> status --json']

  async run(): Promise<unknown> {
    const { flags } = await this.parse(Status)
    const status = await (await this.connect(flags)).status()
    return this.show(status, textOf(status))
  }
}

function textOf({ site, doors, deadlines, refusedConnections, disks, peers, migrations }: StatusView): string {
  const { name, id, version, root, nbd, peer } = site
  const sections = [
    facts({
      site: `${name} (${id})`,
      version,
      root,
      nbd: nbd.join(', ') || 'none',
      peers: peer ?? 'not listening',
      'refused connections': refusedConnections && countText(refusedConnections),
      deadlines: deadlinesText(deadlines),
    }),
    table(doorHeader, doors.map(doorRow), 'No listeners.'),
    table(diskHeader, disks.map(diskRow), 'No disks.'),
    table(peerHeader, peers.map(peerRow), 'No peers.'),
    table(migrationHeader, migrations.map(migrationRow), 'No migrations.'),
  ]
  return [...sections, ...troublesText(disks), ...reachedText(peers)].join('\n\n')
}
