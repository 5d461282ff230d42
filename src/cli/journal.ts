// The log under journald: when stderr is the journal, each line begins with its priority (sd-daemon(3)) and is text that
// people read there. Pure, but for the look at what stderr is.

import { fstatSync } from 'node:fs'

/** What pino writes: level, time, message and facts. */
type Entry = Readonly<Record<string, unknown>>

const stderr = 2
const errorPriority = 3
/** syslog's priorities, by pino's levels. */
const priorities = [
  { from: 60, priority: 2 },
  { from: 50, priority: errorPriority },
  { from: 40, priority: 4 },
  { from: 30, priority: 6 },
]
const debugPriority = 7

/** systemd names device and inode of the stream that it made; after a redirection stderr is another one. */
export function isJournal(environment: NodeJS.ProcessEnv, fd = stderr): boolean {
  const { JOURNAL_STREAM: stream } = environment
  if (stream === undefined) return false
  const { dev, ino } = fstatSync(fd, { bigint: true })
  return stream === `${dev}:${ino}`
}

/** What a sentence about an error begins with on stderr. */
export function errorPrefix(environment: NodeJS.ProcessEnv): string {
  return isJournal(environment) ? `<${errorPriority}>` : ''
}

/** One line of pino's as the journal takes it: the sentence, then the facts; a stack has lines of its own. */
export function journalText(line: string): string {
  const prefix = `<${priorityOf(Number((JSON.parse(line) as Entry)['level']))}>`
  return sentences(line)
    .map((text) => `${prefix}${text}\n`)
    .join('')
}

/** The sentence with its facts; and of an error, below it, the stack. Each is one line. */
export function sentences(line: string): string[] {
  const { level: _level, time: _time, msg, err, ...facts } = JSON.parse(line) as Entry
  const { message, stack } = (err ?? {}) as { message?: unknown; stack?: unknown }
  const shown = { ...facts, ...(message !== undefined && { error: message }) }
  const words = Object.entries(shown).map(([name, value]) => `${name}=${wordOf(value)}`)
  const sentence = [singleLine(String(msg ?? 'nothing was said')), ...words].join(' ')
  const below = typeof stack === 'string' ? stack.split('\n').slice(1) : []
  return [sentence, ...below.map(singleLine)]
}

function priorityOf(level: number): number {
  return priorities.find(({ from }) => level >= from)?.priority ?? debugPriority
}

/** What a peer or a client called itself stays one word, and cannot begin a line. */
function wordOf(value: unknown): string {
  if (typeof value === 'string' && /^[\w./:@+=,-]+$/.test(value)) return value
  return JSON.stringify(value)
}

function singleLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is taken out.
  return text.replaceAll(/[\u0000-\u001f\u007f]+/g, ' ')
}
