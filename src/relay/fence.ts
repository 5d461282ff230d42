// The fence of a move through a relay: one key decides whether its disks are the destination's (`grant`) or stay with the
// source (`revoked`). How one key decides is once.ts's.
//
// What always holds: after `departed` the source serves again only if `takesBack` is true; a destination takes the disks only
// on a `grant` to its own key, be it by the fence, or the source's word.

import { z } from 'zod'
import type { ObjectStore } from '../transport/index.ts'
import { numbered } from './names.ts'
import { Once, type OnceRecord, type Outcome } from './once.ts'

const fingerprint = z.string().regex(/^[0-9a-f]{64}$/)
const common = {
  /** With the generation that the move makes. In order of their ids. */
  disks: z
    .array(
      z.strictObject({
        disk: z.uuid(),
        generation: z
          .number()
          .int()
          .min(1)
          .max(2 ** 48),
      }),
    )
    .min(1)
    .max(64),
  /** Who put it: the source, or, of a parked disk, the claimant. */
  by: fingerprint,
  attempt: z.uuid(),
}
const shape = z.discriminatedUnion('decision', [
  /** `to`: fingerprint of the claimant's key. */
  z.strictObject({ v: z.literal(1), decision: z.literal('grant'), to: fingerprint, ...common }),
  z.strictObject({ v: z.literal(1), decision: z.literal('revoked'), ...common }),
])

export type Decision = z.infer<typeof shape>
type Unnumbered<Of> = Of extends Decision ? Omit<Of, 'v' | 'attempt'> : never
/** What a site wants it to be. */
export type Wanted = Unnumbered<Decision>

export interface FenceParts {
  readonly store: Pick<ObjectStore, 'put' | 'get' | 'delete'>
  readonly folder: string
  /** MoveKeys.fence */
  readonly key: Uint8Array
  readonly move: string
  /** The one that the move makes; of several disks the highest. */
  readonly generation: number
  readonly record: OnceRecord
}

export class Fence {
  readonly #once: Once<Decision>

  constructor({ store, folder, key, move, generation, record }: FenceParts) {
    const as = { move, kind: 'fence', position: numbered(generation), generation } as const
    const what = `the decision on move ${move}`
    this.#once = new Once({ store, folder, key, as, shape, record, what })
  }

  /**
   * Tries to decide it so. Asked again, after a crash too, it is answered the same: there is one decision.
   * @throws RelayError `unfit`; SealError: what stands there is nobody's; whatever the store throws. Then nothing is known.
   */
  decide(wanted: Wanted, signal: AbortSignal): Promise<Outcome<Decision>> {
    const disks = [...wanted.disks].sort((one, other) => (one.disk < other.disk ? -1 : 1))
    return this.#once.decide((attempted) => ({ ...wanted, disks, ...attempted }), signal)
  }

  /**
   * The source wants the disks back. true: they are, and nobody else ever takes them by this move. false: they were granted.
   * @throws as `decide`: then the source serves nothing.
   */
  async takesBack(disks: Wanted['disks'], by: string, signal: AbortSignal): Promise<boolean> {
    const { decided } = await this.decide({ decision: 'revoked', disks, by }, signal)
    return decided.decision === 'revoked'
  }

  /** What is decided, as far as the store shows it; undefined is no proof that nothing is. @throws SealError */
  read(signal: AbortSignal): Promise<Decision | undefined> {
    return this.#once.read(signal)
  }
}
