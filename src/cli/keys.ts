// Single keys of an operator who watches a terminal. What always holds: while they are heard the terminal sends no signals, so
// that Ctrl-C comes as a key; and the terminal is left as it was found. A command in the background (`migrate … &`) asks for
// nothing: the system would stop it for touching a terminal that is another's.

import { readFileSync } from 'node:fs'

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

/** Of /proc/PID/stat (proc_pid_stat(5)): whether the process is of the group that its terminal is for. */
export function isInForeground(stat: string): boolean {
  const [, , group, , , groupOfTerminal] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return group !== undefined && group === groupOfTerminal
}

function hasTerminal(): boolean {
  try {
    return isInForeground(readFileSync('/proc/self/stat', 'utf8'))
  } catch {
    return false
  }
}

/** Whether there is a terminal, and it is this command's. */
export function canHearKeys(input: KeyInput, isOurs = hasTerminal): boolean {
  return input.isTTY === true && input.setRawMode !== undefined && isOurs()
}

/** Until it is disposed. Does nothing where no keys can be heard. */
export function hearKeys(input: KeyInput, actions: KeyActions, isOurs = hasTerminal): Disposable {
  if (!canHearKeys(input, isOurs)) return { [Symbol.dispose]: () => {} }
  const hear = (typed: Buffer | string) => {
    for (const key of String(typed)) {
      if (key === interruptKey) process.kill(process.pid, 'SIGINT')
      else if (key === suspendKey) process.kill(process.pid, 'SIGTSTP')
      else actions[key]?.()
    }
  }
  const wasRaw = input.isRaw === true
  input.setRawMode!(true)
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
