// Whether a disk's writers are quiet, which is how a stopped guest looks (DESIGN.md section 6; QEMU: after STOP come the
// last answers, then exactly one flush, then silence). Only sessions that have written count. A session is quiet when
// nothing of it is in flight and its last request was an answered flush, or when it said DISC. A session that broke counts
// as it stood when it broke, until this daemon ends: nobody can tell whether its guest comes back.

import type { SessionEnd } from '../nbd/export.ts'

export class SessionActivity {
  readonly client: string
  hasWritten = false
  /** Requests begun and not answered. */
  inFlight = 0
  lastWasAnsweredFlush = false

  constructor(client: string) {
    this.client = client
  }

  begin(isGuestWrite: boolean): void {
    this.inFlight++
    this.lastWasAnsweredFlush = false
    if (isGuestWrite) this.hasWritten = true
  }

  end(wasGoodFlush: boolean): void {
    this.inFlight--
    this.lastWasAnsweredFlush = wasGoodFlush && this.inFlight === 0
  }

  get isBusy(): boolean {
    return this.hasWritten && !(this.inFlight === 0 && this.lastWasAnsweredFlush)
  }
}

export class Sessions {
  readonly #open = new Set<SessionActivity>()
  /** Sessions that broke while they were busy: their number and the last one's client. */
  #broken = 0
  #brokenClient = ''
  #writersSaidGoodbye = false

  get count(): number {
    return this.#open.size
  }

  open(client: string): SessionActivity {
    const activity = new SessionActivity(client)
    this.#open.add(activity)
    return activity
  }

  close(activity: SessionActivity, end: SessionEnd): void {
    this.#open.delete(activity)
    if (end === 'broken' && activity.isBusy) {
      this.#broken++
      this.#brokenClient = activity.client
    } else if (end === 'disconnected' && activity.hasWritten) {
      this.#writersSaidGoodbye = true
    }
  }

  /** undefined: every writer is quiet. Else a sentence's end that says who is not. */
  busyReason(): string | undefined {
    for (const activity of this.#open) {
      if (activity.isBusy) return `the session of ${activity.client} has written and has not flushed since`
    }
    if (this.#broken > 0)
      return `${this.#broken} session(s), the last of ${this.#brokenClient}, broke before they flushed`
    return undefined
  }

  /** Sessions that had written were here, each of them has said DISC. */
  get writersAreGone(): boolean {
    if (!this.#writersSaidGoodbye || this.#broken > 0) return false
    for (const activity of this.#open) if (activity.hasWritten) return false
    return true
  }
}
