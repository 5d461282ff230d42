// Single keys of an operator who watches a terminal. What always holds: while they are heard the terminal sends no signals, so
// that Ctrl-C comes as a key; and the terminal is left as it was found.

/** By the character that the terminal sends; '\x03' is Ctrl-C. */
export type KeyActions = Readonly<Record<string, () => void>>

const interruptKey = '\x03'
const suspendKey = '\x1a'

export interface KeyInput {
  readonly isTTY?: boolean
  readonly isRaw?: boolean
  setRawMode?(isRaw: boolean): unknown
  on(event: 'data', listener: (typed: Buffer | string) => void): unknown
  off(event: 'data', listener: (typed: Buffer | string) => void): unknown
  resume(): unknown
  pause(): unknown
}

/** Until it is disposed. Does nothing where no terminal is. */
export function hearKeys(input: KeyInput, actions: KeyActions): Disposable {
  if (!input.isTTY || input.setRawMode === undefined) return { [Symbol.dispose]: () => {} }
  const hear = (typed: Buffer | string) => {
    for (const key of String(typed)) {
      if (key === interruptKey) process.kill(process.pid, 'SIGINT')
      else if (key === suspendKey) process.kill(process.pid, 'SIGTSTP')
      else actions[key]?.()
    }
  }
  const wasRaw = input.isRaw === true
  input.setRawMode(true)
  input.on('data', hear)
  input.resume()
  return {
    [Symbol.dispose]: () => {
      input.off('data', hear)
      input.setRawMode!(wasRaw)
      input.pause()
    },
  }
}
