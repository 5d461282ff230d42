// The first phase of a destination's course, in which the source owns: its bytes are read from afar (forwarded-reads.ts), a
// flush has it sync (forwarded-flushes.ts), and the disk is taken when a guest writes here, a reader stays, or the operator
// says so (switchover.ts). It ends with switchover, or is left when the migration is cancelled.
//
// What always holds: `incoming` becomes `gone` only on the source's durable word, or by the operator's force.

import { unknownOwner } from '../../../disk/states.ts'
import { GuestError } from '../../../guest/export.ts'
import { GuestsHere } from '../../guest-notices.ts'
import type { WaitingGuests } from '../../held-writes.ts'
import { tooLate } from '../../refusals.ts'
import { ForwardedFlushes } from '../forwarded-flushes.ts'
import { ForwardedReads } from '../forwarded-reads.ts'
import { type DestinationHost, recorded, remoteParts } from '../host.ts'
import { Inquiry } from '../inquiry.ts'
import type { PassedRightParts } from '../passed-right.ts'
import { RemoteBlocks } from '../remote-blocks.ts'
import { StayingReaders } from '../staying-readers.ts'
import { Switchover } from '../switchover.ts'

export class Incoming {
  readonly #host: DestinationHost
  /** Aborts when the disk is not incoming any more, or this site stops. */
  readonly #passed = new AbortController()
  /** Resolves then. */
  readonly #over = Promise.withResolvers<void>()
  #going: Promise<void> | undefined
  readonly #inquiry: Inquiry
  readonly #guests: GuestsHere
  readonly #readers: StayingReaders
  /** As last heard; on record soon after. */
  #sourceBoot: string | null
  /** Whether the source has told, since this daemon started, that it still owns. */
  #sourceConfirmed: boolean
  readonly reads: ForwardedReads
  readonly flushes: ForwardedFlushes
  readonly switchover: Switchover

  /** `fresh`: the source has just asked for it, so that nothing can have been granted yet. */
  constructor(host: DestinationHost, fresh: boolean) {
    this.#host = host
    this.#sourceConfirmed = fresh
    const { course, services, source, stopping, working, note } = host
    const { clock } = services
    this.#sourceBoot = course.record.sourceBoot
    this.#inquiry = new Inquiry({
      clock,
      signal: stopping,
      ask: async (signal) => this.#hearBoot(await source.inquire(signal)),
      note,
    })
    this.#guests = new GuestsHere({
      ...services,
      course,
      stopping,
      why: () => (this.switchover.active ? this.switchover.why : 'it is switched over by hand'),
      source,
      progressed: () => host.tell({ kind: 'progress' }),
    })
    const right: PassedRightParts = {
      diskName: course.disk.name,
      isIncoming: () => this.#isHere,
      isAcquiring: () => this.switchover.active,
      inquire: () => this.#inquiry.answer(),
      hasDeparted: () => this.switchover.command('resume'),
      isCancelled: () => this.leave(),
    }
    const { id: disk, generation } = course.moved(course.disk)
    const before = { disk, generation: generation - 1 } // Until the source has given the disk up.
    this.reads = new ForwardedReads({
      ...right,
      clock,
      remote: (refused) =>
        new RemoteBlocks({
          ...remoteParts(host, before),
          refused: (error, signal) => {
            host.heed(error)
            return refused(error, signal)
          },
        }),
    })
    this.flushes = new ForwardedFlushes({
      ...right,
      clock,
      stallTimeoutMs: course.terms.stallTimeoutMs,
      signal: AbortSignal.any([working, this.#passed.signal]),
      ask: async (signal) => this.#hearBoot(await source.flush(before, signal)),
      sourceBoot: () => this.#sourceBoot,
    })
    this.#readers = new StayingReaders({
      clock,
      sessions: course.disk.sessions,
      signal: AbortSignal.any([stopping, this.#passed.signal]),
      came: () => this.#readerStays(),
    })
    this.switchover = new Switchover({
      host,
      guests: this.#guests,
      passed: this.#passed.signal,
      acquire: async (asked, signal) => {
        const answer = await source.acquire(asked, signal)
        return answer.answer === 'granted' ? this.#hearBoot(answer) : answer
      },
      isLeaving: () => this.#going !== undefined,
      hasDeparted: async () => {
        const { state } = await this.#inquiry.answer()
        if (state === 'cancelled') void this.leave().catch(() => {}) // At a stop, the next start does it.
        return state === 'departed'
      },
      refused: async (code, message) => {
        if (code === 'cancelled') await this.leave()
        else note(`the source refused the switchover: ${message}`)
      },
      switched: () => this.#pass(),
    })
  }

  get guests(): WaitingGuests {
    return this.#guests.now
  }

  get isSwitching(): boolean {
    return this.switchover.active && this.#isHere
  }

  /** The site that owns the disk while it is incoming here, or `unknown`. */
  get owner(): string {
    if (this.switchover.unanswered || !this.#sourceConfirmed) return unknownOwner
    return this.#host.course.disk.record.owner
  }

  /** The source may have forgotten who waits here. */
  linkUp(): void {
    this.#guests.again()
  }

  /** Listens to the sessions of the disk; clients may have come before. */
  start(): void {
    this.#host.course.disk.onSessions = () => this.#sessionsChanged()
    this.#sessionsChanged()
  }

  stop(): void {
    this.#pass()
  }

  /** Finds out how the migration stands, and resolves when the disk is not incoming any more, or this site stops. */
  async run(): Promise<void> {
    const { course, note } = this.#host
    const { disk, terms } = course
    const over = this.#over.promise
    const answer = await Promise.race([this.#inquiry.answer(), over.then(() => undefined)])
    if (answer === undefined || !this.#isHere) return
    const { state, writersAreGone } = answer
    if (state === 'cancelled') return this.leave()
    if (state === 'departed')
      this.switchover.command('resume') // It was granted, and the answer was lost.
    else if (state === 'preparing' || state === 'ready') this.#sourceConfirmed = true
    else note(`the source says ${state} of ${disk.name}: look at both sites with vmstore disk show`)
    if (terms.switchover === 'now') this.switchover.command('operator')
    else if (writersAreGone) this.writersGone()
    await over
  }

  /** Every writer at the source has said goodbye: a guest that only reads, and stays, is not served from afar for ever. */
  writersGone(): void {
    if (this.#readers.any && this.#isForReaders) this.switchover.command('reader-only')
  }

  /**
   * The source says that this migration is cancelled, on several ways perhaps at once; or the operator leaves by force.
   * `owner`: as far as is known then.
   */
  leave(owner = this.#host.course.record.peerSite): Promise<void> {
    this.#going ??= this.#leave(owner).finally(() => {
      this.#going = undefined
    })
    return this.#going
  }

  async #leave(owner: string): Promise<void> {
    const { course, stopping, update, ending, tell } = this.#host
    const { disk, record } = course
    if (!this.#isHere) return
    if (this.switchover.hasGrant) throw tooLate(disk, record, 'cancelled')
    this.switchover.end(new GuestError('not-served', `migration ${course.id} of ${disk.name} is cancelled`))
    const gone = () => update(ending('cancelled', owner), () => [disk.arriving.abandon()])
    await recorded(this.#host, 'that the migration is cancelled', gone, stopping)
    this.#pass()
    tell({ kind: 'ended' })
  }

  /** The disk has moved on from here, or nothing is done about it any more. */
  #pass(): void {
    this.#passed.abort()
    this.#over.resolve()
  }

  get #isHere(): boolean {
    return this.#host.course.disk.state === 'incoming'
  }

  get #isForReaders(): boolean {
    return this.#isHere && this.#host.course.terms.switchover === 'auto'
  }

  #sessionsChanged(): void {
    if (!this.#isForReaders) return
    this.#readers.changed()
    if (this.#readers.any) this.#readerStays()
  }

  #readerStays(): void {
    if (!this.#isForReaders) return
    void this.#inquiry.answer().then(
      ({ writersAreGone }) => writersAreGone && this.writersGone(),
      () => {},
    )
  }

  /** The source runs under this boot, or gave the disk up under it. Whatever waits for its sync has to know at once. */
  #hearBoot<Answer extends { readonly boot: string | null }>(answer: Answer): Answer {
    const { boot } = answer
    const { course, update } = this.#host
    if (boot === null || boot === this.#sourceBoot || course.ended) return answer
    this.#sourceBoot = boot
    update({ sourceBoot: boot }).catch(() => {}) // A start that does not know it has a flush fail that need not have.
    return answer
  }
}
