// The command line as a whole: finds the command, runs it, and prints what failed outside of any command.

import { flush, run, settings } from '@oclif/core'
import { nearestText } from '../disk/nearest-name.ts'
import { loadConfig } from './bundled-plugins.ts'
import { exitOfOclif, isSilentExit, printForPeople, viewOfAny } from './errors.ts'
import { processTitle } from './process-title.ts'
import { jsonText } from './terminal.ts'

export async function main(): Promise<void> {
  quietClosedPipes()
  process.title = processTitle(process.argv.slice(2))
  settings.enableAutoTranspile = false // Node strips the types itself, of linked plugins too.
  let ids: readonly string[] = []
  try {
    const config = await loadConfig()
    ids = config.commandIDs
    await run(process.argv.slice(2), config)
  } catch (error) {
    if (isSilentExit(error)) process.exitCode = exitOfOclif(error) ?? 0
    else failOutside(error, ids)
  }
  await flush()
}

/** Such as a command that does not exist. oclif's own plugins end here with their errors too. */
function failOutside(error: unknown, ids: readonly string[]): void {
  const told = viewOfAny(error)
  const unknown = /command (\S+) not found/.exec((error as Error).message)?.[1]
  const meant = unknown === undefined ? '' : nearestText(unknown, ids).replaceAll(':', ' ')
  const view = meant === '' ? told : { ...told, next: `${meant}${told.next ?? ''}`.trim() }
  process.exitCode = view.exit
  if (asksForJson()) process.stdout.write(`${jsonText({ error: view }, 2)}\n`)
  else printForPeople(view, error)
}

function asksForJson(): boolean {
  const words = process.argv.slice(2)
  const end = words.indexOf('--')
  return (end === -1 ? words : words.slice(0, end)).includes('--json')
}

/** A reader that has seen enough, such as `head`, is no error; and of a stderr that takes nothing nobody can be told. */
function quietClosedPipes(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
  })
  process.stderr.on('error', () => {})
}
