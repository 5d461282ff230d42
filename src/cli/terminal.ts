// What reaches the operator's terminal: when listr2 may draw, and where (it writes to stdout unless told otherwise; progress
// belongs on stderr); and text without anything that a terminal takes for a command.
//
// What always holds: names, notes and reasons may come from another site or a client, which may be hostile. No control
// character and no mark that turns the direction of writing is shown but as its escape, in JSON too.

import { ListrLogger, ProcessOutput } from 'listr2'

export function loggerOn(output: NodeJS.WriteStream): ListrLogger {
  return new ListrLogger({ useIcons: true, toStderr: [], processOutput: new ProcessOutput(output, output) })
}

/** Only on a whole terminal; one that does not know its size would show a column of letters, or nothing. */
export function canDraw(output: NodeJS.WriteStream): boolean {
  return output.isTTY && process.stdout.isTTY && output.columns > 0 && output.rows > 0
}

/** C0, DEL and C1; the line and paragraph separators; and the marks of bidirectional text. */
const unprintable = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu

const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`

/** One line. */
export function printable(line: string): string {
  return line.replaceAll(unprintable, escaped)
}

/** Lines of ours: what is between them was made printable where it was put in. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n')
}

/** JSON means the same when it is escaped. Its line breaks are those of its layout. */
export function jsonText(value: unknown, indent?: number): string {
  return printableLines(JSON.stringify(value, null, indent))
}
