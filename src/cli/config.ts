// What the operator has set for good, in one JSON file that only they can read (settings of transports may be secrets).
// Flags and the environment win over it.

import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { ControlError } from '../control/errors.ts'
import { ExitCode } from '../control/types.ts'
import { UsageError } from './errors.ts'

export type Setting = string | number | boolean
type Tree = { [key: string]: Setting | Tree }

const plainKeys: Readonly<Record<string, string>> = {
  root: 'folder of the site',
  control: "path of the daemon's control socket",
  'peer.address': 'address that invitations name, such as tcp://a.example.org:10810',
}
const transportKey = /^transports\.[a-z][a-z0-9+-]*\.[A-Za-z][A-Za-z0-9_-]*$/
const secretKey = /secret|password|passphrase|token|credential|key/i
const hidden = '(set, not shown)'

export function configFolder(): string {
  const { VMSTORE_CONFIG_DIR, XDG_CONFIG_HOME } = process.env
  return VMSTORE_CONFIG_DIR || join(XDG_CONFIG_HOME || join(homedir(), '.config'), 'vmstore')
}

export async function getSetting(key: string): Promise<Setting | undefined> {
  checkKey(key)
  return (await open())?.get(key) as Setting | undefined
}

/** undefined: as if it had never been set. */
export async function setSetting(key: string, value: Setting | undefined): Promise<void> {
  checkKey(key)
  const config = await open(true)
  if (value === undefined) config!.delete(key)
  else config!.set(key, value)
}

/** All settings by key, in order. Secrets are hidden. */
export async function listSettings(): Promise<Record<string, Setting>> {
  const all = [...leaves((await open())?.store ?? {})]
  return Object.fromEntries(all.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => [key, shown(key, value)]))
}

/** transports.<scheme>, by scheme: what each driver is given. */
export async function transportSettings(): Promise<Record<string, Record<string, unknown>>> {
  return ((await open())?.get('transports') ?? {}) as Record<string, Record<string, unknown>>
}

/** 'true' and '7' are what they look like; everything else is text. */
export function parseSetting(text: string): Setting {
  if (text === 'true' || text === 'false') return text === 'true'
  return /^-?(0|[1-9]\d{0,14})$/.test(text) ? Number(text) : text
}

function checkKey(key: string): void {
  if (key in plainKeys || transportKey.test(key)) return
  const known = [...Object.keys(plainKeys), 'transports.<scheme>.<name>'].join(', ')
  throw new UsageError(`There is no setting "${key}"; there are ${known}.`)
}

const shown = (key: string, value: Setting): Setting =>
  key.startsWith('transports.') && secretKey.test(key.slice(key.lastIndexOf('.') + 1)) ? hidden : value

function* leaves(tree: Tree, path: readonly string[] = []): Generator<[string, Setting]> {
  for (const [name, value] of Object.entries(tree)) {
    if (typeof value === 'object' && value !== null) yield* leaves(value, [...path, name])
    else yield [[...path, name].join('.'), value]
  }
}

/** conf brings a JSON schema compiler with it: it is loaded only when there is something to read or write. */
async function open(create = false) {
  const folder = configFolder()
  const path = join(folder, 'config.json')
  if (!create && !existsSync(path)) return undefined
  const { default: Conf } = await import('conf')
  try {
    return new Conf<Tree>({ cwd: folder, configName: 'config', configFileMode: 0o600 })
  } catch (cause) {
    throw new ControlError(
      {
        code: 'config-unreadable',
        exit: ExitCode.other,
        message: `The configuration ${path} cannot be read: ${(cause as Error).message}.`,
        safe: 'Nothing was changed.',
        next: 'Mend the file, which is JSON, or move it away.',
      },
      { cause },
    )
  }
}
