// What a peer asks for: disks of this site, by their names (`migrate --from` there).
//
// What always holds: it gets no disk that the operator here has not allowed it, and hears the same of one that is not here. What
// decides over bytes is not the peer's to say: nothing is deleted here, and no client cut off, on its word.

import { Refusal } from '../../disk/refusal.ts'
import { PeerRefusal } from '../../link/channel.ts'
import type { Terms } from '../terms.ts'
import type { Beginnings } from './beginnings.ts'
import type { MigrationsServices } from './services.ts'

/** Resolves to the id of the migration. @throws PeerRefusal */
export async function beginForPeer(
  services: MigrationsServices,
  beginnings: Beginnings,
  peerId: string,
  asked: { readonly disks: readonly string[]; readonly terms: Terms },
  signal: AbortSignal,
): Promise<string> {
  const peer = services.peer(peerId)
  const rights = services.rights(peerId)
  const named = asked.disks.map((name) => ({ name, disk: services.disks.all().find((each) => each.name === name) }))
  for (const { name, disk } of named)
    if (!rights.mayTake(disk?.id ?? '')) throw notAllowed(`${name} may not be taken`, peer.name, `--take ${name}`)
  checkTerms(asked.terms)
  const undecided = named.find(({ disk }) => !rights.maySayWhen(disk?.id ?? ''))
  if (asked.terms.switchover === 'now' && undecided) {
    const what = `${undecided.name} may be taken, and not at once (--switchover now)`
    throw notAllowed(what, peer.name, `--take ${undecided.name} --give`)
  }
  try {
    const names = named.map(({ name, disk }) => disk?.id ?? name)
    return (await beginnings.start(names, peer, asked.terms, signal)).id
  } catch (error) {
    if (error instanceof Refusal) throw new PeerRefusal(error.code, error.toPeer)
    throw error
  }
}

/** `what`: a sentence's beginning. */
function notAllowed(what: string, peerName: string, flags: string): PeerRefusal {
  const message = `${what} until the operator there has said so, at that site: vmstore peer allow ${peerName} ${flags}`
  return new PeerRefusal('not-allowed', message)
}

/** @throws PeerRefusal */
function checkTerms({ sourcePolicy, force }: Terms): void {
  const refuse = (what: string, instead: string) => {
    throw new PeerRefusal('owners-word', `${what} is said by the operator there alone: ${instead}`)
  }
  if (sourcePolicy === 'delete')
    refuse('that its bytes are deleted (--source delete)', 'take it with --source keep, and have it deleted there then')
  if (force) refuse('that a client is cut off (--force)', 'begin the move there, with vmstore migrate --to')
}
