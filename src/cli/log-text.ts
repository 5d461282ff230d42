// What the lines of a daemon's log look like: under journald text with a priority, on a terminal text with the time, for all
// others JSON. Pure, but for the look at what stderr is.

import { isJournal, journalText, sentences } from './journal.ts'
import { printable } from './terminal.ts'

export function textOfLog(environment: NodeJS.ProcessEnv, isTerminal: boolean | undefined): (line: string) => string {
  if (isJournal(environment)) return journalText
  return isTerminal ? terminalText : (line) => line
}

/** '03:10:07 warn  the link is down peer=tokyo', at the clock of the machine. */
export function terminalText(line: string): string {
  const { time, level } = JSON.parse(line) as { time: number; level: number }
  const prefix = `${timeOfDay(new Date(time))} ${wordFor(level).padEnd(5)} `
  const [first, ...below] = sentences(line)
  return [`${prefix}${first}`, ...below].map((text) => `${printable(text)}\n`).join('')
}

function wordFor(level: number): string {
  if (level >= 50) return 'error'
  if (level >= 40) return 'warn'
  return level >= 30 ? 'info' : 'debug'
}

function timeOfDay(time: Date): string {
  return [time.getHours(), time.getMinutes(), time.getSeconds()].map((each) => String(each).padStart(2, '0')).join(':')
}
