// What the log says of the link to a peer: down, the first retry, that retry's failure, up. A site that does not dial says
// down and up. What is no news is there for whoever looks for it (debug).

import type { Logger } from 'pino'
import type { LinkEvent } from '../link/peers/link-watch.ts'

export function logLink(event: LinkEvent, peer: string, log: Logger): void {
  const seconds = (ms: number | undefined) => (ms === undefined ? undefined : Math.round(ms / 100) / 10)
  const info = event.isQuiet ? 'debug' : 'info'
  const warn = event.isQuiet ? 'debug' : 'warn'
  switch (event.kind) {
    case 'down':
      log[warn](
        { peer, why: event.why, upSeconds: seconds(event.wasUpMs) },
        `the link to ${peer} is down: ${event.why}`,
      )
      return
    case 'retry':
      log[info]({ peer }, `${peer} is dialled again, until the link is up`)
      return
    case 'retry-failed':
      log[warn]({ peer, why: event.why }, `${peer} could not be reached, and is dialled on: ${event.why}`)
      return
    case 'refused':
      log[warn]({ peer, why: event.why }, `${peer} is there, and cannot be spoken with: ${event.why}`)
      return
    case 'up':
      log[info]({ peer, downSeconds: seconds(event.wasDownMs) }, `the link to ${peer} is up`)
  }
}
