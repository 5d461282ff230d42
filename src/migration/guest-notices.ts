// Tells of guests that wait for switchover, or were refused, at the destination: watchers, the log, and the source.
//
// What always holds: nothing depends on its being heard. A write that waits for less than a moment is told to nobody, and
// however many are refused, a line is written for the first, the second, the fourth and so on.

import type { Clock } from '../block/clock.ts'
import { GuestError } from '../guest/export.ts'
import { PeerRefusal } from '../link/channel.ts'
import { startingCode } from './codes.ts'
import type { SourceDesk } from './counterpart.ts'
import type { Course, CourseLog } from './course.ts'
import { HeldWritesWatch, nobodyWaits, type WaitingGuests } from './held-writes.ts'
import { diskNames } from './move.ts'
import { withinTime } from './within-time.ts'

/** What lasts less is not worth a word: a switchover takes less. */
const momentMs = 1000
const informTimeoutMs = 5000

export interface GuestNoticesParts {
  readonly clock: Clock
  /** Ends when this site stops. */
  readonly stopping: AbortSignal
  now(): WaitingGuests
  /** Listeners here are told. */
  told(guests: WaitingGuests): void
  readonly source: Pick<SourceDesk, 'guests'>
}

export class GuestNotices {
  readonly #parts: GuestNoticesParts
  #said = JSON.stringify(nobodyWaits)
  #heard = this.#said
  #isTelling = false

  constructor(parts: GuestNoticesParts) {
    this.#parts = parts
  }

  changed(): void {
    if (!this.#isTelling) void this.#tell()
  }

  /** The source may have forgotten. */
  again(): void {
    if (this.#heard === JSON.stringify(nobodyWaits)) return
    this.#heard = ''
    this.changed()
  }

  async #tell(): Promise<void> {
    const { clock, stopping, now, told } = this.#parts
    this.#isTelling = true
    try {
      do {
        await clock.sleep(momentMs, stopping)
        const guests = now()
        const text = JSON.stringify(guests)
        if (text !== this.#said) told(guests)
        this.#said = text
        if (text !== this.#heard && (await this.#inform(guests))) this.#heard = text
      } while (now().held !== null || JSON.stringify(now()) !== this.#heard)
    } catch {
      // This site is stopping.
    } finally {
      this.#isTelling = false
    }
  }

  /** Whether the source has heard it, or does not want to. */
  async #inform(guests: WaitingGuests): Promise<boolean> {
    const { clock, stopping, source } = this.#parts
    try {
      await withinTime(clock, informTimeoutMs, stopping, (signal) => source.guests(guests, signal))
      return true
    } catch (error) {
      stopping.throwIfAborted()
      return error instanceof PeerRefusal && error.code !== startingCode
    }
  }
}

export interface GuestsHereParts extends Pick<GuestNoticesParts, 'clock' | 'stopping' | 'source'> {
  readonly course: Course
  readonly log: CourseLog
  /** What writes wait for now: a sentence's end. */
  why(): string
  progressed(): void
}

/** At the destination: counts them and tells of them. */
export class GuestsHere {
  readonly #held: HeldWritesWatch
  readonly #notices: GuestNotices

  constructor(parts: GuestsHereParts) {
    const { course, log, clock, why } = parts
    const { id: migration, refusedWrites } = course.record
    const guestsLog = new GuestsLog(log, { migration, disk: diskNames(course.record) })
    const told = (guests: WaitingGuests) => {
      guestsLog.write(guests)
      parts.progressed()
    }
    this.#notices = new GuestNotices({ ...parts, now: () => this.now, told })
    const clients = () => [...new Set(course.disks.flatMap((disk) => disk.sessions.writing()))]
    this.#held = new HeldWritesWatch({ clock, clients, why, changed: () => this.#notices.changed() }, refusedWrites)
  }

  get now(): WaitingGuests {
    return this.#held.now
  }

  /** The source may have forgotten. */
  again(): void {
    this.#notices.again()
  }

  /** A write that waits in `waiting`, and is refused if that ends with EPERM. */
  async hold(waiting: () => Promise<void>): Promise<void> {
    using _held = this.#held.enter()
    try {
      await waiting()
    } catch (error) {
      if (error instanceof GuestError && error.code === 'not-permitted') this.#held.refuse(error.message)
      throw error
    }
  }
}

/** The lines of the log. */
export class GuestsLog {
  readonly #log: CourseLog
  readonly #facts: { readonly migration: string; readonly disk: string }
  #heldSince: string | undefined
  #loggedCount = 0

  constructor(log: CourseLog, facts: { readonly migration: string; readonly disk: string }) {
    this.#log = log
    this.#facts = facts
  }

  write({ held, refused }: WaitingGuests): void {
    if (held && held.since !== this.#heldSince)
      this.#log('warn', { ...this.#facts, ...held }, 'a write at the destination waits for switchover')
    this.#heldSince = held?.since
    if (!refused || refused.count < Math.max(1, 2 * this.#loggedCount)) return
    this.#loggedCount = refused.count
    const next = `If the machine runs there: vmstore migration switchover ${this.#facts.migration}. If not, stop that client.`
    const sentence = 'writes at the destination were refused (EPERM), for the source still owns the disk'
    this.#log('warn', { ...this.#facts, ...refused, next }, sentence)
  }
}
