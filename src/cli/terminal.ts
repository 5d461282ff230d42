// When listr2 may draw, and where: it writes to stdout unless told otherwise; progress belongs on stderr.

import { ListrLogger, ProcessOutput } from 'listr2'

export function loggerOn(output: NodeJS.WriteStream): ListrLogger {
  return new ListrLogger({ useIcons: true, toStderr: [], processOutput: new ProcessOutput(output, output) })
}

/** Only on a whole terminal; one that does not know its size would show a column of letters, or nothing. */
export function canDraw(output: NodeJS.WriteStream): boolean {
  return output.isTTY && process.stdout.isTTY && output.columns > 0 && output.rows > 0
}
