// vmstore session list

import { BaseCommand } from '../../cli/base-command.ts'
import { sessionHeader, sessionRow } from '../../cli/session-text.ts'
import { table } from '../../cli/table.ts'

export default class SessionList extends BaseCommand {
  static override summary = 'list the NBD clients that use a disk of this site'
  static override description =
    'One line a connection: what it has asked for since it came, and whether it has written what no flush covers yet.'
  static override examples = ['<%= config.bin %> session list', '<%= config.bin %> session list --json']

  async run(): Promise<unknown> {
    const { flags } = await this.parse(SessionList)
    const sessions = await (await this.connect(flags)).listSessions()
    return this.show(sessions, table(sessionHeader, sessions.map(sessionRow), 'No client is attached.'))
  }
}
