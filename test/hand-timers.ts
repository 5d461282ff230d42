// Timers that a test moves by hand, for code that takes its deadlines from the global setTimeout: a deadline comes when the
// test says so, and not sooner because the machine is busy. Timers of Node's own and of mocha go on as they are.

import { mock } from 'node:test'

export interface HandTimers extends Disposable {
  /** So much time passes: every timer that falls due in it fires. */
  pass(durationMs: number): void
}

export function handTimers(): HandTimers {
  mock.timers.enable({ apis: ['setTimeout'] })
  return {
    pass: (durationMs) => mock.timers.tick(durationMs),
    [Symbol.dispose]: () => mock.timers.reset(),
  }
}
