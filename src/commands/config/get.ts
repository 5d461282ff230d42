// vmstore config get

import { Args } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { getSetting } from '../../cli/config.ts'
import { refused } from '../../cli/errors.ts'

export default class ConfigGet extends BaseCommand {
  static override summary = 'print a setting'
  static override examples = ['<%= config.bin %> config get root']
  static override args = { key: Args.string({ description: 'such as root, or transports.s3.region', required: true }) }

  async run(): Promise<unknown> {
    const { args } = await this.parse(ConfigGet)
    const value = await getSetting(args.key)
    if (value === undefined) {
      throw refused('config-unset', `${args.key} is not set.`, {
        next: `Set it: vmstore config set ${args.key} VALUE.`,
      })
    }
    return this.show({ key: args.key, value }, String(value))
  }
}
