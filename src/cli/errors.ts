// How a command fails: every error becomes an ErrorView with an exit code, and is printed once, here.

import { ControlError, errorViewOf } from '../control/errors.ts'
import { type ErrorView, ExitCode } from '../control/types.ts'
import { errorPrefix } from './journal.ts'
import { printable, printableLines } from './terminal.ts'

/** The operator's words were not understood. oclif rewrites the message of what a flag's parser throws; `view` keeps ours. */
export class UsageError extends Error {
  readonly view: ErrorView
  constructor(message: string, next?: string) {
    super(message)
    this.name = 'UsageError'
    this.view = { code: 'usage', message, exit: ExitCode.usage, ...(next !== undefined && { next }) }
  }
}

/** Understood, and not done: nothing was changed. */
export function refused(code: string, message: string, more: { disk?: string; next?: string } = {}): ControlError {
  return new ControlError({ code, message, exit: ExitCode.refused, safe: 'Nothing was changed.', ...more })
}

export function viewOfAny(error: unknown): ErrorView {
  if (error instanceof UsageError) return error.view
  const view = errorViewOf(error)
  if (view !== undefined) return view
  const message = error instanceof Error ? error.message : String(error)
  if (exitOfOclif(error) === ExitCode.usage) {
    return { code: 'usage', message: plainUsage(message), exit: ExitCode.usage, next: 'See the command with --help.' }
  }
  return {
    code: 'unexpected',
    message: `The command failed in a way nobody foresaw: ${message.trim()}${/[.!?]$/.test(message.trim()) ? '' : '.'}`,
    exit: ExitCode.other,
    next: 'Run it again with DEBUG=* for the details.',
  }
}

/** oclif's way to end a command with a code and no message, such as after --help. */
export function isSilentExit(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === 'EEXIT'
}

export function exitOfOclif(error: unknown): number | undefined {
  return (error as { oclif?: { exit?: number } } | null)?.oclif?.exit
}

/** oclif sets its messages over several lines; a sentence has one. */
function plainUsage(message: string): string {
  const lines = message
    .replace(/\s*See more help with --help\s*$/, '')
    .replace(/^The following errors? occurred:/, '')
    .split('\n')
  const sentence = lines
    .map((line) => line.trim())
    .filter(Boolean)
    .join(' ')
    .replaceAll(/\bcommand (\S+) not found/g, (_, id: string) => `There is no command "${id.replaceAll(':', ' ')}"`)
  return /[.!?]$/.test(sentence) ? sentence : `${sentence}.`
}

export function printForPeople(view: ErrorView, error?: unknown): void {
  const lines = [printable(view.message)]
  if (view.safe !== undefined) lines.push(printable(`  safe: ${view.safe}`))
  if (view.next !== undefined) lines.push(printable(`  next: ${view.next}`))
  if (process.env['DEBUG'] && error instanceof Error) lines.push(printableLines(error.stack ?? ''))
  const prefix = errorPrefix(process.env)
  process.stderr.write(lines.map((line) => `${prefix}${line}\n`).join(''))
}
