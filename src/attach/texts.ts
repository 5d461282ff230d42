// The events of an attached device as sentences.

import type { AttachEvent } from './attachment.ts'

/** `isWarning`: somebody should look. */
export function sentenceOf(event: AttachEvent): { readonly text: string; readonly isWarning: boolean } {
  const { device, disk, live, connections } = event
  switch (event.type) {
    case 'attached': {
      const how = event.takenOver ? 'was attached already, and is cared for again' : 'is attached'
      return {
        text: `${device} ${how}: ${disk}, ${event.size} bytes${event.readOnly ? ', read-only' : ''}.`,
        isWarning: false,
      }
    }
    case 'link-down': {
      const left = live === 0 ? 'none is left: what is asked of it waits' : `${live} of ${connections} are left`
      return { text: `${device}: a connection to ${disk} broke; ${left}.`, isWarning: true }
    }
    case 'link-up': {
      const links = connections === 1 ? '' : `; ${live} of ${connections} connections are up`
      return { text: `${device}: connected to ${disk} again${links}.`, isWarning: false }
    }
    case 'waiting':
      return { text: `${device}: no new connection to ${disk} yet, and trying on: ${event.reason}`, isWarning: true }
    case 'failing': {
      const since = `there has been no connection to ${disk} for ${event.seconds} s`
      return { text: `${device}: ${since}: what is asked of it fails now. Trying on.`, isWarning: true }
    }
    case 'detached':
      return { text: `${device} is detached.`, isWarning: false }
  }
}
