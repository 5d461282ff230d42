// Asks an operator at a terminal to confirm what cannot be undone, by typing a name.

import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { ControlError } from '../control/errors.ts'
import type { ErrorView } from '../control/types.ts'
import { printForPeople } from './errors.ts'
import { printable } from './terminal.ts'

/** Whether the operator typed `word` after having read `warning`. An end of the input is a no. */
export async function confirmed(
  warning: ErrorView,
  word: string,
  input: NodeJS.ReadableStream,
  output: NodeJS.WritableStream,
): Promise<boolean> {
  printForPeople(warning)
  const lines = createInterface({ input, output, terminal: false })
  try {
    output.write(`To go on, type ${printable(word)}: `)
    const [line] = await Promise.race([once(lines, 'line'), once(lines, 'close').then(() => [''])])
    return String(line).trim() === word
  } finally {
    lines.close()
  }
}

/** Somebody can be asked. A script has said what it means by saying it. */
export const canAsk = (): boolean => process.stdin.isTTY && process.stderr.isTTY

/** Has it confirmed by a word that is typed. @throws the warning, when it is not */
export async function asMeant(warning: ControlError, word: string): Promise<void> {
  if (!(await confirmed(warning.view, word, process.stdin, process.stderr))) throw warning
}

/**
 * Asks the daemon without the operator's word, so that it checks everything first: nobody confirms what is refused then.
 * The word is asked for where somebody can give it. @throws what the daemon refused
 */
export async function askedFirst<Answer>(
  ask: (confirmed: boolean) => Promise<Answer>,
  name: string,
  mayAsk: boolean,
): Promise<Answer> {
  try {
    return await ask(false)
  } catch (error) {
    const isQuestion = error instanceof ControlError && error.code === 'not-confirmed'
    if (!isQuestion || !mayAsk || !process.stdin.isTTY) throw error
    if (!(await confirmed(error.view, error.disk ?? name, process.stdin, process.stderr))) throw error
    return ask(true)
  }
}
