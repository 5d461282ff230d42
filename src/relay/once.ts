// What is decided once for all by a key of a store: the first that puts it has decided, by a put that only succeeds where
// nothing is. The fence of a move and the claim of a ticket are such keys.
//
// What always holds:
// - What a site is about to put is durable with it first, byte for byte: after a crash it puts the same again, and knows it again.
// - `exists` says nothing of who has won: it may be one's own put, whose answer was lost. What stands there is read, and only it
//   is believed. If it cannot be read, nothing is decided for this site.
// - A store that says at any put that it cannot keep the condition, or shows it, decides nothing (RelayError `unfit`). What only a lost
//   answer could have said, is asked again: before a site believes that a put of its own, whose answer it never had, has won, a
//   put of a new key has to show that the store keeps the condition still. A bucket whose versions are kept from today on lets
//   a later put win over an earlier one, and says so in the answer to that put alone.
// - Nobody deletes the key while anybody may still put it: a put beside a delete may have no winner at all.

import { randomBytes, randomUUID } from 'node:crypto'
import type { z } from 'zod'
import type { ObjectStore } from '../transport/index.ts'
import { RelayError } from './errors.ts'
import { keyOf } from './names.ts'
import { open, type SealedAs, seal } from './seal.ts'
import { isUnfit, unfitSentence } from './unfit.ts'

/** A site's own record of what it is about to put. */
export interface OnceRecord {
  /** What was kept last; undefined: nothing. */
  kept(): Promise<Uint8Array | undefined>
  /** Durable when it resolves. It takes the place of what was kept before. */
  keep(sealed: Uint8Array): Promise<void>
}

/** `attempt`: a site that was copied, and runs twice, has one key and two attempts. */
export interface Attempted {
  readonly v: 1
  readonly attempt: string
}

export interface OnceParts<Of extends Attempted> {
  readonly store: Pick<ObjectStore, 'put' | 'get' | 'delete'>
  readonly folder: string
  readonly key: Uint8Array
  readonly as: SealedAs
  readonly shape: z.ZodType<Of>
  readonly record: OnceRecord
  /** For sentences: 'the decision on move 4711'. */
  readonly what: string
}

export interface Outcome<Of> {
  /** What stands there is the very object that this site put: `decided` is what it wanted. */
  readonly isOurs: boolean
  readonly decided: Of
}

export class Once<Of extends Attempted> {
  readonly #parts: OnceParts<Of>
  readonly #key: string

  constructor(parts: OnceParts<Of>) {
    this.#parts = parts
    this.#key = keyOf(parts.folder, parts.as.kind, parts.as.position)
  }

  /**
   * Tries to decide it so; `make` is given the attempt. Asked again, after a crash too, it is answered the same.
   * @throws RelayError `unfit`; SealError: what stands there is nobody's; whatever the store throws. Then nothing is known.
   */
  async decide(make: (attempted: Attempted) => Of, signal: AbortSignal): Promise<Outcome<Of>> {
    const sealed = await this.#toPut(make)
    const answer = await this.#put(this.#key, sealed, signal)
    const found = await this.#parts.store.get(this.#key, { signal })
    if (!found) {
      throw new RelayError(
        'unavailable',
        `the store has ${this.#parts.what} and does not show it yet: it is asked again`,
      )
    }
    const isOurs = sealed.equals(found)
    if (answer === 'stored' && !isOurs) throw new RelayError('unfit', unfitSentence('it let two sites win one key'))
    if (answer === 'exists' && isOurs) await this.#isFitStill(signal)
    return { isOurs, decided: this.#open(found) }
  }

  /** What is decided, as far as the store shows it; undefined is no proof that nothing is. @throws SealError */
  async read(signal: AbortSignal): Promise<Of | undefined> {
    const found = await this.#parts.store.get(this.#key, { signal })
    return found && this.#open(found)
  }

  /** The object that was kept, if it says the same, so that a put whose answer was lost is known again. */
  async #toPut(make: (attempted: Attempted) => Of): Promise<Buffer> {
    const { record, key, as, shape } = this.#parts
    const kept = await record.kept()
    if (kept) {
      const { v, attempt, ...before } = this.#open(kept)
      const { v: _, attempt: __, ...now } = shape.parse(make({ v, attempt }))
      if (JSON.stringify(before) === JSON.stringify(now)) return Buffer.from(kept)
    }
    const wanted = shape.parse(make({ v: 1, attempt: randomUUID() }))
    const sealed = seal(key, as, Buffer.from(JSON.stringify(wanted)))
    await record.keep(sealed) // Before the put: whoever crashes between them must know its own object again.
    return sealed
  }

  /** The answer to a put that a store with versions would have given away was lost: it is asked for with another. */
  async #isFitStill(signal: AbortSignal): Promise<void> {
    const { folder, as, store } = this.#parts
    const key = keyOf(folder, as.kind, `probe-${randomBytes(12).toString('hex')}`)
    await this.#put(key, Buffer.from('is the condition kept?'), signal)
    await store.delete([key], { signal })
  }

  async #put(key: string, sealed: Uint8Array, signal: AbortSignal): Promise<'stored' | 'exists'> {
    try {
      return await this.#parts.store.put(key, sealed, { ifAbsent: true, signal })
    } catch (error) {
      if (!isUnfit(error)) throw error
      throw new RelayError('unfit', unfitSentence((error as Error).message), { cause: error })
    }
  }

  #open(sealed: Uint8Array): Of {
    const { key, as, shape } = this.#parts
    return shape.parse(JSON.parse(open(key, as, sealed).toString('utf8')))
  }
}
