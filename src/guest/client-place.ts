// Whether a client is at another host than this one, so that it outlives the loss of this host's power: what it was answered
// and did not flush is lost to it then, and it does not know.

import type { Socket } from 'node:net'

/**
 * A Unix socket, loopback, and an address of this host are here. A client whose connection is forwarded (ssh -L, a proxy)
 * counts as wherever it is forwarded from last.
 */
export function isElsewhere({ remoteAddress, localAddress }: Pick<Socket, 'remoteAddress' | 'localAddress'>): boolean {
  if (remoteAddress === undefined || remoteAddress === localAddress) return false
  const plain = remoteAddress.replace(/^::ffff:/i, '')
  return plain !== '::1' && !plain.startsWith('127.')
}
