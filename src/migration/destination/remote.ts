// What an incoming or arriving disk has of its migration (disk's RemotePart): the phases of the course serve it. The disk is
// opened with it, and the course is made of the open disk: so it is there first, and is connected as soon as the disk is open.

import assert from 'node:assert/strict'
import type { BlockSource } from '../../disk/block-source.ts'
import type { Landed, RemotePart } from '../../disk/remote-part.ts'
import type { Arriving } from './phases/arriving.ts'
import type { Incoming } from './phases/incoming.ts'

export class Remote implements RemotePart {
  #incoming: Incoming | undefined
  #arriving: Arriving | undefined
  readonly source: BlockSource = { fetch: (runs, options) => this.#whileIncoming.reads.fetch(runs, options) }
  readonly frozen: BlockSource = { fetch: (runs, options) => this.#whileArriving.frozen.fetch(runs, options) }

  connect(incoming: Incoming, arriving: Arriving): void {
    this.#incoming = incoming
    this.#arriving = arriving
  }

  landed(landed: Landed): void {
    this.#whileArriving.landed(landed)
  }

  askSwitchover(signal: AbortSignal): Promise<void> {
    return this.#whileIncoming.switchover.hold(signal)
  }

  flushSource(signal: AbortSignal): Promise<void> {
    return this.#whileIncoming.flushes.flush(signal)
  }

  get #whileIncoming(): Incoming {
    assert(this.#incoming)
    return this.#incoming
  }

  get #whileArriving(): Arriving {
    assert(this.#arriving)
    return this.#arriving
  }
}
