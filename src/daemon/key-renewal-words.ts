// What operators are told of a key that is to be renewed, and is not.

import { Refusal } from '../disk/refusal.ts'
import type { PeerRefusal } from '../link/channel.ts'
import type { PeerRecord } from '../store/records.ts'

const namesOf = (peers: readonly PeerRecord[]) => peers.map(({ name }) => name).join(', ')

function awayWords(away: readonly PeerRecord[]): string {
  const [are, they] = away.length > 1 ? ['are', 'they have'] : ['is', 'it has']
  return `${namesOf(away)} ${are} away: ${they} to be paired anew.`
}

export function peersAway(away: readonly PeerRecord[]): Refusal {
  const message = `${namesOf(away)} cannot be reached, and would not know this site by another key`
  return new Refusal('peers-away', message, {
    safe: 'Nothing was changed: the key is the one that it was.',
    next: `Bring the link up, or remove the peer: vmstore peer remove. With --force the key is renewed all the same, and such a peer has to be removed and paired anew, at both sites.`,
  })
}

export function peerRefuses(peer: PeerRecord, error: PeerRefusal): Refusal {
  return new Refusal(error.code, `${peer.name} refused the new key: ${error.message}`, {
    safe: 'Nothing was changed: the key is the one that it was.',
    cause: error,
  })
}

export function notFinished(cause: unknown): Refusal {
  return new Refusal('not-recorded', `the new key is decided on, and could not be put in place yet`, {
    exit: 1,
    safe: 'Disks are served. It is tried again until it is done, at the next start too; no move begins before.',
    next: 'Make room, or mend the storage of the data folder: the log says what failed.',
    cause,
  })
}

/** What the operator has to know, and to say. */
export function notConfirmed(told: readonly PeerRecord[], away: readonly PeerRecord[]): Refusal {
  const many = told.length > 1
  const known =
    told.length === 0
      ? ''
      : ` ${namesOf(told)} ${many ? 'are' : 'is'} told, and ${many ? 'trust' : 'trusts'} the new key then.`
  const lost = away.length === 0 ? '' : ` ${awayWords(away)}`
  const what =
    "This site gets a new key, and with it another id; what its disks' deeds say is signed over to it. The old key is worth nothing then."
  return new Refusal('not-confirmed', `${what}${known}${lost}`, {
    safe: 'Nothing was changed.',
    next: 'Say so with --yes.',
  })
}
