// Ctrl-C of a command that has something to undo: the first one aborts, the second ends the process at once.

const interruptedExit = 130 // 128 and SIGINT's number, as a shell reports it.

export interface Interrupt extends Disposable {
  readonly signal: AbortSignal
}

/** Until it is disposed, SIGINT and SIGTERM abort the signal with `reason`. */
export function onInterrupt(reason: Error): Interrupt {
  const controller = new AbortController()
  const act = () => (controller.signal.aborted ? process.exit(interruptedExit) : controller.abort(reason))
  process.on('SIGINT', act)
  process.on('SIGTERM', act)
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      process.off('SIGINT', act)
      process.off('SIGTERM', act)
    },
  }
}
