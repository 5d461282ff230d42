// What the source tells its destination unasked: that the disks' writers have gone, and that the migration is cancelled.
//
// What always holds: nothing depends on its being heard. A destination that missed it asks when it comes back.

import { LinkError } from '../../link/channel.ts'
import type { DestinationDesk } from '../counterpart.ts'
import type { Course, CourseServices } from '../course.ts'
import { withinTime } from '../within-time.ts'
import { writersAreGone } from './attached.ts'

/** How long a call that only informs the peer may take; it asks anyway when it comes back. */
const informTimeoutMs = 5000

export class SourceNotices {
  readonly #course: Course
  readonly #there: DestinationDesk
  readonly #services: Pick<CourseServices, 'clock' | 'log'>
  readonly #stopping: AbortSignal
  #tellingWritersGone = false

  constructor(
    course: Course,
    there: DestinationDesk,
    services: Pick<CourseServices, 'clock' | 'log'>,
    stopping: AbortSignal,
  ) {
    this.#course = course
    this.#there = there
    this.#services = services
    this.#stopping = stopping
  }

  cancelled(): void {
    void this.#inform('cancelled', (signal) => this.#there.cancelled(signal)) // The destination asks too, when it comes back.
  }

  /** A session of a disk came, went or broke. */
  sessionsChanged(): void {
    const { record, terms } = this.#course
    if (terms.switchover !== 'auto' || record.state !== 'ready') return
    if (writersAreGone(this.#course.inMove) && !this.#tellingWritersGone) void this.#tellWritersGone()
  }

  /** Until the destination has heard it, or it is not so any more. */
  async #tellWritersGone(): Promise<void> {
    this.#tellingWritersGone = true
    try {
      while (this.#course.record.state === 'ready' && writersAreGone(this.#course.inMove)) {
        if (await this.#inform('writers-gone', (signal) => this.#there.writersGone(signal))) return
        await this.#services.clock.sleep(informTimeoutMs, this.#stopping)
      }
    } catch {
      // This site is stopping.
    } finally {
      this.#tellingWritersGone = false
    }
  }

  /** Tells the destination something, within a time. Resolves to whether it has heard it. */
  async #inform(what: string, say: (signal: AbortSignal) => Promise<void>): Promise<boolean> {
    const { id } = this.#course
    const { clock, log } = this.#services
    try {
      await withinTime(clock, informTimeoutMs, this.#stopping, say)
      return true
    } catch (error) {
      if (!(error instanceof LinkError)) {
        log('warn', { migration: id, what, error: String(error) }, 'the destination did not take a message')
      }
      return false
    }
  }
}
