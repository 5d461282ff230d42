// vmstore config set

import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { parseSetting, setSetting } from '../../cli/config.ts'
import { UsageError } from '../../cli/errors.ts'

export default class ConfigSet extends BaseCommand {
  static override summary = 'change a setting, or remove it with --unset'
  static override description = `Flags and the environment win over settings. A daemon reads them when it starts.
Settings: root, control, peer.address, transports.<scheme>.<name>.`
  static override examples = [
    '<%= config.bin %> config set root /srv/vmstore',
    '<%= config.bin %> config set transports.s3.region eu-west-1',
    '<%= config.bin %> config set root --unset',
  ]
  static override args = {
    key: Args.string({ description: 'such as root, or transports.s3.region', required: true }),
    value: Args.string({ description: 'text, a number, true or false' }),
  }
  static override flags = { unset: Flags.boolean({ description: 'remove the setting' }) }

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(ConfigSet)
    const { key, value: text } = args
    if ((text === undefined) !== (flags.unset === true))
      throw new UsageError(`Give either a value for ${key} or --unset.`)
    const value = text === undefined ? undefined : parseSetting(text)
    await setSetting(key, value)
    return this.show({ key, value: value ?? null }, value === undefined ? `${key} is not set now.` : `${key} is set.`)
  }
}
