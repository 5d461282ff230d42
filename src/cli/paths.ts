// Where a site's folder and its control socket are, for the daemon and for the commands alike.
// Flags and the environment first (oclif reads both as flags), then the configuration, then the custom of the system.

import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { getSetting } from './config.ts'

export interface Paths {
  /** The site's folder. Absolute. */
  readonly root: string
  /** The control socket. Absolute. */
  readonly control: string
}

export function defaultRoot(env: NodeJS.ProcessEnv = process.env, isRoot = process.getuid?.() === 0): string {
  if (env['VMSTORE_ROOT']) return resolve(env['VMSTORE_ROOT'])
  if (isRoot) return '/var/lib/vmstore'
  return join(env['XDG_DATA_HOME'] || join(homedir(), '.local', 'share'), 'vmstore')
}

/** A root that was named takes its own socket with it, whatever the configuration says of `control`. */
export async function resolvePaths(flags: { root?: string | undefined; control?: string | undefined }): Promise<Paths> {
  const named = flags.root || process.env['VMSTORE_ROOT']
  const root = resolve(named || (await textSetting('root')) || defaultRoot())
  const socket = flags.control || (named ? undefined : await textSetting('control'))
  return { root, control: resolve(socket || join(root, 'control.sock')) }
}

async function textSetting(key: string): Promise<string | undefined> {
  const value = await getSetting(key)
  return value === undefined ? undefined : String(value)
}
