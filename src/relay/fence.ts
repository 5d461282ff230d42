// The fence of a move through a relay: one key decides whether its disks are the destination's (`grant`) or stay with the
// source (`revoked`), by a put that only succeeds where nothing is.
//
// What always holds:
// - What a site is about to put is durable with it first, byte for byte: after a crash it puts the same again, and knows it again.
// - `exists` says nothing of who has won: it may be one's own put, whose answer was lost. What stands there is read, and only it
//   is believed. If it cannot be read, nothing is decided for this site.
// - Whoever has won has read it back. A store that shows another object than the one it said it stored cannot keep a fence.
// - A store that says it cannot keep the condition, at whichever put, is no fence (RelayError `unfit`); what it stored is not believed.
// - Nobody deletes the key while anybody may still put it: a put beside a delete may have no winner at all.

import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import type { ObjectStore } from '../transport/index.ts'
import { RelayError } from './errors.ts'
import { keyOf, numbered } from './names.ts'
import { open, type SealedAs, seal } from './seal.ts'
import { isUnfit, unfitSentence } from './unfit.ts'

const fingerprint = z.string().regex(/^[0-9a-f]{64}$/)
const disks = z
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
  .max(64)
/** Which attempt it is: a site that was copied, and runs twice, has one key and two attempts. */
const attempt = z.uuid()
const shape = z.discriminatedUnion('decision', [
  z.strictObject({
    v: z.literal(1),
    decision: z.literal('grant'),
    disks,
    /** Fingerprint of the claimant's key. */
    to: fingerprint,
    /** Who put it: the source, or, of a parked disk, the claimant. */
    by: fingerprint,
    attempt,
  }),
  z.strictObject({ v: z.literal(1), decision: z.literal('revoked'), disks, by: fingerprint, attempt }),
])

/** The disks are named with the generation that the move makes. */
export type Decision = z.infer<typeof shape>
type Unnumbered<Of> = Of extends Decision ? Omit<Of, 'v' | 'attempt'> : never
/** What a site wants it to be. */
export type Wanted = Unnumbered<Decision>

/** A site's own record of what it is about to put. */
export interface FenceRecord {
  /** What was kept last; undefined: nothing. */
  kept(): Promise<Uint8Array | undefined>
  /** Durable when it resolves. It takes the place of what was kept before. */
  keep(sealed: Uint8Array): Promise<void>
}

export interface FenceParts {
  readonly store: Pick<ObjectStore, 'put' | 'get'>
  readonly folder: string
  /** MoveKeys.fence */
  readonly key: Uint8Array
  readonly move: string
  /** The one that the move makes; of several disks the highest. */
  readonly generation: number
  readonly record: FenceRecord
}

export interface Outcome {
  /** What stands there is the very object that this site put: `decided` is what it wanted. */
  readonly isOurs: boolean
  readonly decided: Decision
}

export class Fence {
  readonly #parts: FenceParts
  readonly #as: SealedAs
  readonly #key: string

  constructor(parts: FenceParts) {
    const { folder, move, generation } = parts
    const position = numbered(generation)
    this.#parts = parts
    this.#as = { move, kind: 'fence', position, generation }
    this.#key = keyOf(folder, 'fence', position)
  }

  /**
   * Tries to decide it so. Asked again, after a crash too, it is answered the same: there is one decision.
   * @throws RelayError `unfit`; SealError: what stands there is nobody's; whatever the store throws. Then nothing is known.
   */
  async decide(wanted: Wanted, signal: AbortSignal): Promise<Outcome> {
    const sealed = await this.#kept(wanted)
    const answer = await this.#put(sealed, signal)
    const found = await this.#parts.store.get(this.#key, { signal })
    if (!found) {
      throw new RelayError(
        'unavailable',
        `the relay has a decision on move ${this.#parts.move} and does not show it yet: it is asked again`,
      )
    }
    const isOurs = sealed.equals(found)
    if (answer === 'stored' && !isOurs) throw new RelayError('unfit', unfitSentence('it let two sites win one key'))
    return { isOurs, decided: this.#open(found) }
  }

  /** What is decided, as far as the store shows it; undefined is no proof that nothing is. @throws SealError */
  async read(signal: AbortSignal): Promise<Decision | undefined> {
    const found = await this.#parts.store.get(this.#key, { signal })
    return found && this.#open(found)
  }

  /** The object to put: the one that was kept, if it says the same, so that a put whose answer was lost is known again. */
  async #kept(wanted: Wanted): Promise<Buffer> {
    const { record, key } = this.#parts
    const kept = await record.kept()
    if (kept && isSame(this.#open(kept), wanted)) return Buffer.from(kept)
    const decision = shape.parse({ v: 1, ...wanted, attempt: randomUUID() })
    const sealed = seal(key, this.#as, Buffer.from(JSON.stringify(decision)))
    await record.keep(sealed) // Before the put: whoever crashes between them must know its own object again.
    return sealed
  }

  async #put(sealed: Uint8Array, signal: AbortSignal): Promise<'stored' | 'exists'> {
    try {
      return await this.#parts.store.put(this.#key, sealed, { ifAbsent: true, signal })
    } catch (error) {
      if (!isUnfit(error)) throw error
      throw new RelayError('unfit', unfitSentence((error as Error).message), { cause: error })
    }
  }

  #open(sealed: Uint8Array): Decision {
    const plain = open(this.#parts.key, this.#as, sealed)
    return shape.parse(JSON.parse(plain.toString('utf8')))
  }
}

function isSame(kept: Decision, wanted: Wanted): boolean {
  const { v: _, attempt: __, ...is } = kept
  return JSON.stringify(inOrder(is)) === JSON.stringify(inOrder(wanted))
}

function inOrder(decision: Wanted): readonly unknown[] {
  const listed = [...decision.disks].sort((one, other) => (one.disk < other.disk ? -1 : 1))
  const to = decision.decision === 'grant' ? decision.to : null
  return [decision.decision, listed.map(({ disk, generation }) => [disk, generation]), to, decision.by]
}
