// The real clock.

import { setTimeout as sleep } from 'node:timers/promises'
import { loopTurns } from '../block/turns.ts'
import type { Clock } from '../disk/clock.ts'

export const systemClock: Clock = {
  now: () => performance.now(),
  date: () => new Date(),
  sleep: async (durationMs, signal) => {
    try {
      await sleep(durationMs, undefined, signal ? { signal } : {})
    } catch (error) {
      signal?.throwIfAborted() // The reason, not the timer's own error.
      throw error
    }
  },
  turn: (urgency) => loopTurns.next(urgency),
}
