// Whether a disk's writers are quiet, which is how a stopped guest looks (DESIGN.md section 6; QEMU: after STOP come the
// last answers, then exactly one flush, then silence). Only sessions that have written count. A session is quiet when
// nothing of it is in flight and the last thing after its last request was an answered flush: its own, or, because a flush
// covers every connection (CAN_MULTI_CONN), that of another session which began later. A session that said DISC is quiet.
// A session that broke counts as it stood when it broke, until one that was opened later has written and flushed: that is
// the hypervisor which came back.
//
// Order is counted in ticks, one for each thing that happens; no clock is needed.

import type { SessionEnd } from '../nbd/export.ts'

export type RequestKind = 'read' | 'write' | 'flush'

export class SessionActivity {
  readonly client: string
  readonly openedAt: number
  /** At another host. */
  readonly isElsewhere: boolean
  hasWritten = false
  inFlight = 0
  writesInFlight = 0
  /** When its last request other than a flush ended. */
  lastEndedAt = 0
  /** Whether it was busy when its client went, if that is known to have happened before its last requests ended. */
  stoodBusy: boolean | undefined

  constructor(client: string, openedAt: number, isElsewhere: boolean) {
    this.client = client
    this.isElsewhere = isElsewhere
    this.openedAt = openedAt
  }
}

export class Sessions {
  readonly #open = new Set<SessionActivity>()
  /** The last session that broke while it was busy: its client, and when. */
  #broken: { readonly client: string; readonly at: number } | undefined
  /** When the last session that had written broke, busy or not: its guest may come back. 0: none did, or it came back. */
  #writerBrokeAt = 0
  /** When the latest of all answered flushes began. */
  #flushedAt = 0
  #writersSaidGoodbye = false
  #tick = 0
  #writes = 0
  #writesOver = 0

  /** Guest writes that have begun since the disk was opened: whoever copies it sees by them whether it changed. */
  get writes(): number {
    return this.#writes
  }

  /** Of them, those that are not answered yet. */
  get writesInFlight(): number {
    return this.#writes - this.#writesOver
  }

  /** A client at another host is attached. */
  get anyElsewhere(): boolean {
    for (const { isElsewhere } of this.#open) if (isElsewhere) return true
    return false
  }

  get count(): number {
    return this.#open.size
  }

  /** Who has writes in flight: each client once. */
  writing(): string[] {
    const busy = [...this.#open].filter(({ writesInFlight }) => writesInFlight > 0)
    return [...new Set(busy.map(({ client }) => client))]
  }

  open(client: string, isElsewhere = false): SessionActivity {
    const activity = new SessionActivity(client, ++this.#tick, isElsewhere)
    this.#open.add(activity)
    return activity
  }

  /** A request begins. The result is given to `end`. */
  begin(activity: SessionActivity, kind: RequestKind): number {
    activity.inFlight++
    if (kind === 'write') {
      activity.writesInFlight++
      this.#writes++
    }
    return ++this.#tick
  }

  /** The request that began at `began` was answered; `good`: with success. */
  end(activity: SessionActivity, kind: RequestKind, began: number, good: boolean): void {
    activity.inFlight--
    if (kind === 'write') {
      activity.writesInFlight--
      this.#writesOver++
      if (good) {
        activity.hasWritten = true
        if (activity.openedAt > this.#writerBrokeAt) this.#writerBrokeAt = 0
      }
    }
    if (kind !== 'flush') activity.lastEndedAt = ++this.#tick
    else if (good) this.#flushed(activity, began)
  }

  /** The client is known to be gone while requests may be in flight: their answers reach nobody. */
  hangUp(activity: SessionActivity): void {
    activity.stoodBusy ??= this.#isBusy(activity)
  }

  close(activity: SessionActivity, end: SessionEnd): void {
    this.#open.delete(activity)
    if (end === 'broken') {
      this.#writersSaidGoodbye = false
      if (activity.hasWritten) this.#writerBrokeAt = ++this.#tick
      if (activity.stoodBusy ?? this.#isBusy(activity)) this.#broken = { client: activity.client, at: ++this.#tick }
    } else if (activity.hasWritten) {
      this.#writersSaidGoodbye = true
    }
  }

  /** undefined: every writer is quiet. Else a sentence's end that says who is not. */
  busyReason(): string | undefined {
    for (const activity of this.#open) {
      if (this.#isBusy(activity)) return `the session of ${activity.client} has written and has not flushed since`
    }
    return this.brokenReason()
  }

  /** Why the disk will not be quiet by itself: a sentence's end. */
  brokenReason(): string | undefined {
    return this.#broken && `a session of ${this.#broken.client} broke before it had flushed what it wrote`
  }

  /** The last that happened is that a session which had written said DISC, and nobody is attached. */
  get writersAreGone(): boolean {
    const noneBroke = this.#broken === undefined && this.#writerBrokeAt === 0
    return this.#writersSaidGoodbye && noneBroke && this.#open.size === 0
  }

  #isBusy(activity: SessionActivity): boolean {
    if (activity.writesInFlight > 0) return true
    return activity.hasWritten && (activity.inFlight > 0 || activity.lastEndedAt > this.#flushedAt)
  }

  #flushed(activity: SessionActivity, began: number): void {
    this.#flushedAt = Math.max(this.#flushedAt, began)
    const cameBack = this.#broken && activity.openedAt > this.#broken.at && activity.hasWritten
    if (cameBack && began > this.#broken!.at) this.#broken = undefined
  }
}
