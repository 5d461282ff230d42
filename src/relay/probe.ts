// Whether a store can keep a fence, tried where the fence will stand: many puts at once of each of several new keys, each over
// connections of its own, must give exactly one `stored` each.
//
// One after another would show nothing: there are stores that refuse a second put that comes later, and let all win that come at
// once, and stores that keep the condition within one of their endpoints alone.
//
// What always holds: what the probe put is deleted when it ends, as far as the store lets it; and a store is called fit only
// if of every key one racer, and no other, was told that it won, and its object is what is read.

import { randomBytes } from 'node:crypto'
import type { ObjectStore } from '../transport/index.ts'
import { RelayError } from './errors.ts'
import { keyOf } from './names.ts'
import { isUnfit, unfitSentence } from './unfit.ts'

export const probeRacers = 12
export const probeKeys = 5
/** Of a key of which some racer was not answered nothing can be said; then another is raced for. */
const mostKeys = 15

export interface ProbeOptions {
  /** A store with connections of its own; closed when the probe ends. Its requests are not tried again by it. */
  readonly open: () => Promise<ObjectStore>
  readonly folder: string
  /** With a deadline: a store that never answers is bounded by it alone. */
  readonly signal: AbortSignal
}

/**
 * Resolves if the store is fit. @throws RelayError `unfit`, `unavailable`; TransportError `denied`, `missing`
 */
export async function probeFence({ open, folder, signal }: ProbeOptions): Promise<void> {
  const stores: ObjectStore[] = []
  const keys: string[] = []
  try {
    for (let racer = 0; racer < probeRacers; racer++) stores.push(await open())
    let decided = 0
    for (let tried = 0; decided < probeKeys && tried < mostKeys; tried++) {
      const key = keyOf(folder, 'fence', `probe-${randomBytes(12).toString('hex')}`)
      keys.push(key)
      if (await race(stores, key, signal)) decided++
    }
    if (decided < probeKeys) {
      throw new RelayError('unavailable', 'the store answered too few requests to tell whether it can keep a fence')
    }
  } finally {
    // A signal that has ended the probe must not keep it from tidying up.
    await stores[0]?.delete(keys, { signal: AbortSignal.timeout(10_000) }).catch(() => undefined)
    await Promise.all(stores.map((store) => store.close().catch(() => undefined)))
  }
}

/** false: not all racers were answered. */
async function race(stores: readonly ObjectStore[], key: string, signal: AbortSignal): Promise<boolean> {
  const bodies = stores.map((_, racer) => Buffer.from(`racer ${racer} of ${randomBytes(16).toString('hex')}`))
  const answers = await Promise.allSettled(
    stores.map((store, racer) => store.put(key, bodies[racer]!, { ifAbsent: true, signal })),
  )
  signal.throwIfAborted()
  for (const answer of answers) {
    if (answer.status === 'fulfilled') continue
    if (isUnfit(answer.reason)) throw new RelayError('unfit', unfitSentence((answer.reason as Error).message))
    if (isFinal(answer.reason)) throw answer.reason
  }
  const won = answers.flatMap((answer, racer) => (isStored(answer) ? [racer] : []))
  if (won.length > 1) {
    const why = `of ${probeRacers} puts at once of one new key ${won.length} succeeded, where one may`
    throw new RelayError('unfit', unfitSentence(why))
  }
  if (won.length === 0) {
    // Somebody whose answer was lost may have won.
    if (answers.some(({ status }) => status === 'rejected')) return false
    const why = `of ${probeRacers} puts at once of one new key none succeeded`
    throw new RelayError('unfit', unfitSentence(why))
  }
  return (await isKept(stores, key, bodies[won[0]!]!, signal)) && answers.every(({ status }) => status === 'fulfilled')
}

/** The winner's object stands there, seen from every side. false: nobody was told. */
async function isKept(
  stores: readonly ObjectStore[],
  key: string,
  body: Buffer,
  signal: AbortSignal,
): Promise<boolean> {
  const seen = await Promise.allSettled(stores.map((store) => store.get(key, { signal })))
  signal.throwIfAborted()
  if (seen.some((one) => one.status === 'fulfilled' && one.value && !body.equals(one.value))) {
    throw new RelayError('unfit', unfitSentence('it shows another object than the one whose put succeeded'))
  }
  return seen.every((one) => one.status === 'fulfilled' && one.value)
}

function isStored(answer: PromiseSettledResult<'stored' | 'exists'>): boolean {
  return answer.status === 'fulfilled' && answer.value === 'stored'
}

function isFinal(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'denied' || error.code === 'missing')
}
