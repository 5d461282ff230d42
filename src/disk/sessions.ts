// The sessions of a disk: who is attached, and whether its writers are quiet, which is how a stopped guest looks (DESIGN.md
// section 6; QEMU: after STOP come the last answers, then exactly one flush, then silence). Only sessions that have written
// count. A session is quiet when nothing of it is in flight and the last thing after its last request was an answered flush:
// its own, or, because a flush covers every connection (CAN_MULTI_CONN), that of another session which began later. A session
// that said DISC is quiet. A session that broke counts as it stood when it broke, until one that was opened later has written
// and flushed: that is the hypervisor which came back.
//
// After a restart of the daemon nobody knows which client wrote and did not flush. So a session of a disk that may have been
// written before counts as a writer until a flush that began after it opened was answered, or until it says DISC.
//
// Order is counted in ticks, one for each thing that happens; no clock is needed.

import type { SessionEnd } from '../guest/export.ts'

export type RequestKind = 'read' | 'write' | 'flush' | 'status' | 'cache'

export class SessionActivity {
  readonly client: string
  readonly openedAt: number
  /** At another host. */
  readonly isElsewhere: boolean
  hasWritten = false
  hasRead = false
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

/** What others than the disk see of them. */
export interface AttachedSessions
  extends Pick<
    Sessions,
    | 'writes'
    | 'count'
    | 'writing'
    | 'busyReason'
    | 'attachedReason'
    | 'attachedWriters'
    | 'brokenReason'
    | 'writersAreGone'
    | 'isUnwritten'
  > {
  readonly all: Iterable<Readonly<SessionActivity>>
}

export class Sessions {
  readonly #open = new Set<SessionActivity>()
  /** The last session that broke while it was busy: its client, when, and whether it is known to have written. */
  #broken: { readonly client: string; readonly at: number; readonly hasWritten: boolean } | undefined
  /** When the last session that had written broke, busy or not: its guest may come back. 0: none did, or it came back. */
  #writerBrokeAt = 0
  /** When the latest of all answered flushes began. */
  #flushedAt = 0
  #writersSaidGoodbye = false
  #isReopened = false
  #tick = 0
  #writes = 0
  #writesOver = 0
  /** Who waits for writes that began before: until when, and how many are left. */
  readonly #waiting = new Set<{ readonly before: number; left: number; readonly over: () => void }>()

  /** Guest writes that have begun since the disk was opened: whoever copies it sees by them whether it changed. */
  get writes(): number {
    return this.#writes
  }

  /** Of them, those that are not answered yet. */
  get writesInFlight(): number {
    return this.#writes - this.#writesOver
  }

  /** Resolves when the writes that have begun are over. */
  async writesBegunAreOver(): Promise<void> {
    const left = this.writesInFlight
    if (left > 0) await new Promise<void>((over) => this.#waiting.add({ before: this.#tick, left, over }))
  }

  #writeIsOver(began: number): void {
    this.#writesOver++
    if (this.#waiting.size === 0) return
    for (const each of this.#waiting) {
      if (began > each.before || --each.left > 0) continue
      this.#waiting.delete(each)
      each.over()
    }
  }

  /** A client at another host is attached. */
  get anyElsewhere(): boolean {
    for (const { isElsewhere } of this.#open) if (isElsewhere) return true
    return false
  }

  get count(): number {
    return this.#open.size
  }

  /** Those that are open. */
  get all(): Iterable<SessionActivity> {
    return this.#open
  }

  /** The disk may have been written in sessions of a daemon that ended: whoever opens one may be such a client, coming back. */
  reopened(): void {
    this.#isReopened = true
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
      this.#writeIsOver(began)
      if (good) {
        activity.hasWritten = true
        if (activity.openedAt > this.#writerBrokeAt) this.#writerBrokeAt = 0
      }
    } else if (kind === 'read' && good) {
      activity.hasRead = true
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
      if (activity.stoodBusy ?? this.#isBusy(activity)) this.#broke(activity)
    } else if (activity.hasWritten) {
      this.#writersSaidGoodbye = true
    }
  }

  /** undefined: every writer is quiet. Else a sentence's end that says who is not. */
  busyReason(): string | undefined {
    return this.attachedReason() ?? this.brokenReason()
  }

  /** Who is attached and not quiet, if anybody: a sentence's end. */
  attachedReason(): string | undefined {
    for (const activity of this.#open) if (this.#isBusy(activity)) return busyText(activity)
    return undefined
  }

  /** Who is attached and not quiet: each client once. A switchover now would cut them off. */
  attachedWriters(): string[] {
    return [...new Set([...this.#open].filter((each) => this.#isBusy(each)).map(({ client }) => client))]
  }

  /** Why the disk will not be quiet by itself: a sentence's end. */
  brokenReason(): string | undefined {
    if (!this.#broken) return undefined
    const what = this.#broken.hasWritten ? 'what it wrote' : `what it may have written ${beforeRestart}`
    return `a session of ${this.#broken.client} broke before it had flushed ${what}`
  }

  /** The last that happened is that a session which had written said DISC, and nobody is attached. */
  get writersAreGone(): boolean {
    const noneBroke = this.#broken === undefined && this.#writerBrokeAt === 0
    return this.#writersSaidGoodbye && noneBroke && this.#open.size === 0
  }

  /** Nobody is attached, and no session that ended had written, or may have, as far as anybody knows. */
  get isUnwritten(): boolean {
    const noneBroke = this.#broken === undefined && this.#writerBrokeAt === 0
    return noneBroke && !this.#writersSaidGoodbye && !this.#isReopened && this.#writes === 0 && this.#open.size === 0
  }

  #isBusy(activity: SessionActivity): boolean {
    if (activity.writesInFlight > 0) return true
    if (activity.hasWritten) return activity.inFlight > 0 || activity.lastEndedAt > this.#flushedAt
    return this.#isReopened && activity.openedAt > this.#flushedAt
  }

  /** One that may have written does not hide one that has. */
  #broke({ client, hasWritten, writesInFlight, stoodBusy }: SessionActivity): void {
    const isWriter = hasWritten || writesInFlight > 0 || (stoodBusy === true && !this.#isReopened)
    if (this.#broken?.hasWritten && !isWriter) return
    this.#broken = { client, at: ++this.#tick, hasWritten: isWriter }
  }

  #flushed(activity: SessionActivity, began: number): void {
    this.#flushedAt = Math.max(this.#flushedAt, began)
    if (!this.#broken || began <= this.#broken.at) return
    // One that only may have written counts again as soon as it is back: until then any flush covers it.
    const cameBack = activity.openedAt > this.#broken.at && activity.hasWritten
    if (cameBack || !this.#broken.hasWritten) this.#broken = undefined
  }
}

const beforeRestart = 'before vmstore was started again'

function busyText({ client, hasWritten, writesInFlight }: SessionActivity): string {
  if (hasWritten || writesInFlight > 0) return `the session of ${client} has written and has not flushed since`
  return `the session of ${client} has not flushed yet, and may have written ${beforeRestart}: have it flush (sync, in its guest), or detach it`
}
