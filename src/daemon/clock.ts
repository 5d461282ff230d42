// The real clock.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../block/clock.ts'
import { loopTurns } from '../block/turns.ts'

/** A timer of more would be over at once. */
const longestTimerMs = 2 ** 31 - 1

export const systemClock: Clock = {
  now: () => performance.now(),
  date: () => new Date(),
  sleep: async (durationMs, signal) => {
    try {
      for (let leftMs = durationMs; ; leftMs -= longestTimerMs) {
        await sleep(Math.min(leftMs, longestTimerMs), undefined, signal ? { signal } : {})
        if (leftMs <= longestTimerMs) return
      }
    } catch (error) {
      signal?.throwIfAborted() // The reason, not the timer's own error.
      throw error
    }
  },
  turn: (urgency, of) => loopTurns.next(urgency, of),
}
