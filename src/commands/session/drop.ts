// vmstore session drop

import { Args } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { clientText } from '../../cli/session-text.ts'

export default class SessionDrop extends BaseCommand {
  static override summary = 'drop a client of a disk'
  static override description =
    `Its requests in flight finish and are answered (within 5 s), then the connection is cut, as when the daemon stops: without
an error reply. A client that reconnects by itself (QEMU with reconnect-delay, vmstore attach) sees a pause; another sees
its disk fail.`
  static override examples = ['<%= config.bin %> session drop 3f9a12c4']
  static override args = { id: Args.string({ description: 'id of the session: vmstore session list', required: true }) }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(SessionDrop)
    const dropped = await (await this.connect(flags)).dropSession(args.id)
    const { disk, safe, next } = dropped
    return this.show(dropped, `${clientText(dropped)} was dropped from ${disk}.\n${safe}\n${next}`)
  }
}
