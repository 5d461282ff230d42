// The first phase of a destination's course, in which the source owns: each disk is served from afar (incoming-disk.ts), and all
// of them are taken together when a guest writes here to any of them, a reader stays, or the operator says so (switchover.ts).
// It ends with switchover, or is left when the migration is cancelled.
//
// What always holds: `incoming` becomes `gone` only on the source's durable word, or by the operator's force; for all disks in
// one transaction.

import type { Disk } from '../../../disk/disk.ts'
import { unknownOwner } from '../../../disk/states.ts'
import { GuestError } from '../../../guest/export.ts'
import { GuestsHere } from '../../guest-notices.ts'
import type { WaitingGuests } from '../../held-writes.ts'
import { diskNames } from '../../move.ts'
import { tooLate } from '../../refusals.ts'
import { unlessAborted } from '../../unless-aborted.ts'
import type { ComingDisk } from '../coming-disk.ts'
import { type DestinationHost, recorded } from '../host.ts'
import { Inquiry } from '../inquiry.ts'
import { StayingReaders } from '../staying-readers.ts'
import { Switchover } from '../switchover.ts'
import { IncomingDisk } from './incoming-disk.ts'

/** Less is copied again in no time. */
const leastKeptBytes = 2 ** 20

/** What was copied stays as a seed while it leaves at least as much room to others as it takes. */
function isWorthKeeping(allocatedBytes: number, freeBytes: number): boolean {
  return allocatedBytes >= leastKeptBytes && allocatedBytes <= freeBytes
}

export class Incoming {
  readonly #host: DestinationHost
  readonly #coming: readonly ComingDisk[]
  /** Aborts when the disks are not incoming any more, or this site stops. */
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
  /** In the order of the move. */
  readonly disks: readonly IncomingDisk[]
  readonly switchover: Switchover

  /** `fresh`: the source has just asked for it, so that nothing can have been granted yet. */
  constructor(host: DestinationHost, coming: readonly ComingDisk[], fresh: boolean) {
    this.#host = host
    this.#coming = coming
    this.#sourceConfirmed = fresh
    const { course, services, source, stopping, note } = host
    const { clock } = services
    const sessions = course.disks.map((disk) => disk.sessions)
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
    const right = {
      isIncoming: () => this.#isHere,
      isAcquiring: () => this.switchover.active,
      inquire: () => this.#inquiry.answer(),
      hasDeparted: () => this.switchover.command('resume'),
      isCancelled: () => this.leave(),
    }
    this.disks = coming.map(
      (each) =>
        new IncomingDisk({
          host,
          coming: each,
          right,
          passed: this.#passed.signal,
          hearBoot: (answer) => this.#hearBoot(answer),
          sourceBoot: () => this.#sourceBoot,
          hold: (diskName, signal) => this.switchover.hold(diskName, signal),
        }),
    )
    this.#readers = new StayingReaders({
      clock,
      sessions,
      signal: AbortSignal.any([stopping, this.#passed.signal]),
      came: () => this.#readerStays(),
    })
    this.switchover = this.#makeSwitchover()
  }

  #makeSwitchover(): Switchover {
    const { source, note } = this.#host
    return new Switchover({
      host: this.#host,
      coming: this.#coming,
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

  /** The site that owns an incoming disk, or `unknown`: its owner on record, if the source is known to have it still. */
  ownerOf({ disk }: ComingDisk): string {
    return this.switchover.unanswered || !this.#sourceConfirmed ? unknownOwner : disk.record.owner
  }

  /** The source may have forgotten who waits here. */
  linkUp(): void {
    this.#guests.again()
  }

  /** Listens to the sessions of the disks; clients may have come before. */
  start(): void {
    for (const { disk } of this.#coming) disk.onSessions = () => this.#sessionsChanged()
    this.#sessionsChanged()
  }

  stop(): void {
    this.#pass()
  }

  /** Finds out how the migration stands, and resolves when the disks are not incoming any more, or this site stops. */
  async run(working: AbortSignal): Promise<void> {
    const { course, note } = this.#host
    const over = this.#over.promise
    const answer = await Promise.race([this.#inquiry.answer(), over.then(() => undefined)])
    if (answer === undefined || !this.#isHere) return
    const { state, writersAreGone } = answer
    if (state === 'cancelled') return this.leave()
    if (state === 'departed')
      this.switchover.command('resume') // It was granted, and the answer was lost.
    else if (state === 'preparing' || state === 'ready') this.#sourceConfirmed = true
    else note(`the source says ${state} of ${diskNames(course.record)}: look at both sites with vmstore disk show`)
    if (course.terms.switchover === 'now') this.switchover.command('operator')
    else if (writersAreGone) this.writersGone()
    await unlessAborted(over, working)
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
    const { record } = course
    if (!this.#isHere) return
    const disks = this.#coming.filter((each) => each.isIncoming).map(({ disk }) => disk)
    if (this.switchover.hasGrant) throw tooLate(disks[0]!, record, 'cancelled')
    this.switchover.end(new GuestError('not-served', `migration ${course.id} of ${diskNames(record)} is cancelled`))
    const room = await this.#host.services.freeBytes().catch(() => 0)
    const keeps = (disk: Disk) => isWorthKeeping(disk.allocatedBytes(), room)
    const gone = () => update(ending('cancelled', owner), () => disks.map((disk) => disk.arriving.abandon(keeps(disk))))
    await recorded(this.#host, disks, 'that the migration is cancelled', gone, stopping)
    this.#pass()
    tell({ kind: 'ended' })
  }

  /** The disks have moved on from here, or nothing is done about it any more. */
  #pass(): void {
    this.#passed.abort()
    this.#over.resolve()
  }

  /** They pass together: while one of them is incoming, all are. */
  get #isHere(): boolean {
    return this.#coming.some((each) => each.isIncoming)
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

  /** The source runs under this boot, or gave the disks up under it. Whatever waits for its sync has to know at once. */
  #hearBoot<Answer extends { readonly boot: string | null }>(answer: Answer): Answer {
    const { boot } = answer
    const { course, update } = this.#host
    if (boot === null || boot === this.#sourceBoot || course.ended) return answer
    this.#sourceBoot = boot
    update({ sourceBoot: boot }).catch(() => {}) // A start that does not know it has a flush fail that need not have.
    return answer
  }
}
