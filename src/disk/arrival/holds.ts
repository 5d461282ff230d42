// Who is at which blocks of an arriving disk at this moment: landings that claimed them, and guest writes that have begun.
//
// What always holds (promise 5, guest writes win): a block is claimed by at most one landing, and a guest write to a claimed
// block waits for the claim's end. Looking and taking are one synchronous step, which is the caller's.

import assert from 'node:assert/strict'
import { overlaps, type Span, without } from '../../block/span.ts'

/** Blocks in use; others may wait for the end of it. */
export class Hold implements Span {
  readonly first: number
  readonly end: number
  readonly #among: Set<Hold>
  #ended: PromiseWithResolvers<void> | undefined

  constructor(span: Span, among: Set<Hold>) {
    this.first = span.first
    this.end = span.end
    this.#among = among
    among.add(this)
  }

  get ended(): Promise<void> {
    this.#ended ??= Promise.withResolvers()
    return this.#ended.promise
  }

  finish(): void {
    this.#among.delete(this)
    this.#ended?.resolve()
  }
}

export class Holds {
  readonly #claims = new Set<Hold>()
  readonly #writes = new Set<Hold>()

  /** A promise for when landings and guest writes that now touch the span have ended; undefined: there are none. */
  unsettled(span: Span): Promise<unknown> | undefined {
    const holds = [...this.#claims, ...this.#writes].filter((hold) => overlaps(hold, span))
    return holds.length === 0 ? undefined : Promise.all(holds.map((hold) => hold.ended))
  }

  /** A promise for the end of a landing that a guest write to the span must wait for; undefined: it may go on now. */
  claimOver(span: Span): Promise<void> | undefined {
    for (const claim of this.#claims) if (overlaps(claim, span)) return claim.ended
    return undefined
  }

  isBeingWritten(span: Span): boolean {
    for (const write of this.#writes) if (overlaps(write, span)) return true
    return false
  }

  /** What is left of the runs of a span for a landing. */
  free(span: Span, runs: Iterable<Span>): Span[] {
    let rest = [...runs]
    for (const hold of [...this.#writes, ...this.#claims]) {
      if (overlaps(hold, span)) rest = rest.flatMap((run) => without(run, hold))
    }
    return rest
  }

  claim(span: Span): Hold {
    return new Hold(span, this.#claims)
  }

  write(span: Span): Hold {
    assert(!this.claimOver(span), 'a guest write waits for the landing on its blocks')
    return new Hold(span, this.#writes)
  }
}
