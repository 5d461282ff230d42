// Asks an operator at a terminal to confirm what cannot be undone, by typing a name.

import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { ErrorView } from '../control/types.ts'
import { printForPeople } from './errors.ts'

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
    output.write(`To go on, type ${word}: `)
    const [line] = await Promise.race([once(lines, 'line'), once(lines, 'close').then(() => [''])])
    return String(line).trim() === word
  } finally {
    lines.close()
  }
}
