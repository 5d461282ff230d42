// vmstore disk verify

import { Args } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { verifyText } from '../../cli/disk-text.ts'
import { ExitCode } from '../../control/types.ts'

export default class DiskVerify extends BaseCommand {
  static override summary = 'compare a disk that is arriving with the site that it comes from, by hash'
  static override description =
    `What is here already, and was not written here since, is compared with the source. What differs is missing again and
fetched anew. The same is done by itself before the source is released; a disk that has arrived has nothing to be compared with.
Exit code 1 when a range differs.`
  static override examples = ['<%= config.bin %> disk verify web01']
  static override args = { name: Args.string({ description: 'name or id of the disk', required: true }) }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(DiskVerify)
    const view = await (await this.connect(flags)).verifyDisk(args.name)
    if (view.differing.length > 0) process.exitCode = ExitCode.other
    return this.show(view, verifyText(view))
  }
}
