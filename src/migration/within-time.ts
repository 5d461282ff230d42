// How long a peer may take to answer, and whether it can be reached at all.

import type { Clock } from '../block/clock.ts'
import { LinkError } from '../link/channel.ts'
import { asRefusal } from './refusals.ts'
import type { MigrationsServices, PeerFacts } from './site/services.ts'

const reachTimeoutMs = 10_000
/** For a destination that makes room, and for a source that is asked to begin. */
export const prepareTimeoutMs = 30_000

/** Does the work, which ends with a LinkError of code `unreachable` when the time is over. */
export async function withinTime<T>(
  clock: Clock,
  limitMs: number,
  signal: AbortSignal,
  work: (limited: AbortSignal) => Promise<T>,
): Promise<T> {
  const timeout = new AbortController()
  const over = clock.sleep(limitMs, timeout.signal).then(
    () => timeout.abort(new LinkError('unreachable', `no answer within ${limitMs / 1000} s`)),
    () => {},
  )
  try {
    return await work(AbortSignal.any([signal, timeout.signal]))
  } finally {
    timeout.abort()
    await over
  }
}

/** Resolves when the peer can be reached. Nothing was changed before. @throws Refusal */
export async function reachPeer(
  { clock, probe }: Pick<MigrationsServices, 'clock' | 'probe'>,
  peer: PeerFacts,
  disk: string,
  signal: AbortSignal,
): Promise<void> {
  try {
    await withinTime(clock, reachTimeoutMs, signal, (limited) => probe(peer.id, limited))
  } catch (error) {
    throw asRefusal(error, disk, peer.name)
  }
}
