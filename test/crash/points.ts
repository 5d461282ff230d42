// Each durable step of a move, at the site where it happens, before and after it: the site dies there, is started again,
// and the move completes.

import { completed, diskWithGuest, guestWorks, taken, verified } from './moves.ts'

const mebibyte = 2 ** 20
const sizeBytes = 12 * mebibyte
/** The copy takes two seconds, so that a guest works while it runs. */
const maxRate = 6 * mebibyte

export interface CrashPoint {
  readonly side: 'source' | 'destination'
  readonly point: string
}

const steps: Readonly<Record<CrashPoint['side'], readonly string[]>> = {
  source: ['migration-preparing', 'migration-ready', 'data-synced', 'disk-departed', 'disk-taken', 'disk-released'],
  destination: [
    ...['file-made', 'disk-incoming', 'map-made', 'disk-arriving', 'data-synced', 'data-synced#3', 'map-synced'],
    ...['map-synced#3', 'disk-owned', 'migration-done'],
  ],
}

export const crashPoints: readonly CrashPoint[] = (['source', 'destination'] as const).flatMap((side) =>
  steps[side].flatMap((step) => [
    { side, point: `before:${step}` },
    { side, point: `after:${step}` },
  ]),
)

/** One move in which the site of `side` dies at the point. */
export async function crashAndComplete({ side, point }: CrashPoint, seed: number): Promise<void> {
  const moving = await diskWithGuest(seed, sizeBytes)
  const { a, b, guest } = moving
  guest.start()
  await guestWorks(moving, 50)
  await guest.stop()
  const victim = side === 'source' ? a : b
  await victim.stop()
  await victim.restart(point)
  const revived = victim.crashed().then(() => victim.restart())
  const work = async () => {
    await taken(a, b, maxRate)
    moving.guestAt = b
    guest.start()
    await completed(a, b)
    await guestWorks(moving, 20)
    await guest.stop()
  }
  await Promise.all([revived, work()])
  await verified(moving, b, a)
}
