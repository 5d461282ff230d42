// The plugins that come with vmstore: each folder below plugins/. They are loaded from there, so that no registry is ever
// asked for them. One of the same name that the user has installed or linked goes before.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Config, Plugin } from '@oclif/core'
import { codeFolder } from './package-folder.ts'

export async function loadConfig(): Promise<Config> {
  const config = await Config.load({ root: codeFolder })
  const folder = join(codeFolder, 'plugins')
  for (const name of readdirSync(folder).sort()) {
    const plugin = new Plugin({ root: join(folder, name), type: 'link' }) // Of a link oclif takes the folder as it is.
    await plugin.load()
    plugin.type = 'core'
    if (!config.plugins.has(plugin.name)) config.plugins.set(plugin.name, plugin)
  }
  return config
}
