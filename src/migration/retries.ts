// When a question that failed is asked again, and how soon.

import { LinkError, PeerRefusal } from '../link/channel.ts'
import { startingCode } from './codes.ts'

const firstRetryMs = 50
const longestRetryMs = 2000

/** How long to wait before attempt number `attempt` (from 1): doubling, with a bound. The hub adds the jitter of dialling. */
export function retryDelayMs(attempt: number): number {
  return Math.min(longestRetryMs, firstRetryMs * 2 ** Math.min(attempt - 1, 10))
}

/** Whether the same question may be answered the next time. */
export function mayAskAgain(error: unknown): boolean {
  if (error instanceof PeerRefusal) return error.code === startingCode
  return error instanceof LinkError && error.code !== 'closed'
}
