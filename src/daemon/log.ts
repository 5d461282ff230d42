// The daemon's log: JSON, a document a line, or what `text` makes of it. It can neither end the daemon nor hold it up, and no
// source of noise can fill it.

import { type LevelWithSilent, type Logger, pino } from 'pino'
import { LogNoise, sourceOf } from './log-noise.ts'
import { LogOutput } from './log-output.ts'

const stderr = 2

export function openLog(level: LevelWithSilent, text: (line: string) => string, fd = stderr): Logger {
  const noise = new LogNoise()
  const missing = (count: number) => `${count} lines of the log are missing here: they could not be written`
  const output = new LogOutput(fd, {
    leftOut: (count) =>
      text(`${JSON.stringify({ level: pino.levels.values['warn'], time: Date.now(), msg: missing(count) })}\n`),
  })
  const options = {
    level,
    base: null,
    hooks: {
      logMethod(this: Logger, args: Parameters<pino.LogFn>, method: pino.LogFn) {
        const [first, second] = args as unknown[]
        const sentence = typeof first === 'string' ? first : String(second ?? '')
        const leftOut = noise.admit(sourceOf(first, sentence), performance.now())
        if (leftOut === undefined) return
        if (leftOut > 0) method.call(this, { leftOut }, `lines like the next were left out: ${leftOut}`)
        method.apply(this, args)
      },
    },
  }
  return pino(options, { write: (line: string) => output.write(text(line)) })
}
