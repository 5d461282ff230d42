// listr2 writes to stdout unless told otherwise; progress belongs on stderr.

import { ListrLogger, ProcessOutput } from 'listr2'

export function loggerOn(output: NodeJS.WriteStream): ListrLogger {
  return new ListrLogger({ useIcons: true, toStderr: [], processOutput: new ProcessOutput(output, output) })
}
