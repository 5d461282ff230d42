// Counts the guest requests in flight on a disk, and holds new ones while the disk freezes. A request enters, works, and
// leaves, in every state. What was held goes on after `thaw`, against whatever state the disk then has. Several may freeze
// a disk, each for a reason of its own: it is thawed when the last of them says so.

import assert from 'node:assert/strict'

export class Gate {
  #inFlight = 0
  #freezers = 0
  #opened: PromiseWithResolvers<void> | undefined
  #drained: PromiseWithResolvers<void> | undefined

  get frozen(): boolean {
    return this.#opened !== undefined
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /** undefined: entered. A promise: the disk is freezing; enter again when it resolves. */
  enter(): Promise<void> | undefined {
    if (this.#opened) return this.#opened.promise
    this.#inFlight++
    return undefined
  }

  leave(): void {
    this.#inFlight--
    assert(this.#inFlight >= 0)
    if (this.#inFlight > 0) return
    this.#drained?.resolve()
    this.#drained = undefined
  }

  /** From now on new requests are held; resolves when those in flight are done. */
  async freeze(): Promise<void> {
    this.#freezers++
    this.#opened ??= Promise.withResolvers()
    if (this.#inFlight === 0) return
    this.#drained ??= Promise.withResolvers()
    await this.#drained.promise
  }

  /** Once for each `freeze`. */
  thaw(): void {
    this.#freezers--
    assert(this.#freezers >= 0)
    if (this.#freezers > 0) return
    this.#opened!.resolve()
    this.#opened = undefined
  }
}
