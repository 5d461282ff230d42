// The first phase of a destination's course, in which the source owns: each disk is served from afar (incoming-disk.ts), and all
// of them are taken together when a guest writes here to any of them, a reader stays, or the operator says so (switchover.ts).
// It ends with switchover, or is left when the migration is cancelled.
//
// What always holds: `incoming` becomes `gone` only on the source's durable word, or by the operator's force; for all disks in
// one transaction.

import type { Disk } from '../../../disk/disk.ts'
import type { Landed } from '../../../disk/remote-part.ts'
import { unknownOwner } from '../../../disk/states.ts'
import { GuestError } from '../../../guest/export.ts'
import type { Ahead } from '../../ahead.ts'
import { type Pace, still } from '../../course.ts'
import { GuestsHere } from '../../guest-notices.ts'
import type { WaitingGuests } from '../../held-writes.ts'
import { diskNames } from '../../move.ts'
import { tooLate } from '../../refusals.ts'
import { copiesAhead } from '../../terms.ts'
import { unlessAborted } from '../../unless-aborted.ts'
import type { ComingDisk } from '../coming-disk.ts'
import { Grants } from '../grants.ts'
import { type DestinationHost, recorded } from '../host.ts'
import { Inquiry } from '../inquiry.ts'
import type { Pacing } from '../pacing.ts'
import { StayingReaders } from '../staying-readers.ts'
import { Switchover } from '../switchover.ts'
import { IncomingDisk } from './incoming-disk.ts'
import { PreCopying } from './pre-copying.ts'

export interface IncomingParts {
  /** The source has just asked for it, so that nothing can have been granted yet. */
  readonly fresh: boolean
  readonly pacing: Pacing
  /** Tells the source how far it is, until `signal` aborts. */
  report(signal: AbortSignal): Promise<void>
}

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
  readonly #report: IncomingParts['report']
  /** undefined: nothing is copied ahead. */
  readonly #preCopying: PreCopying | undefined
  /** Resolves when a guest's first write here switches over; where nothing is copied ahead, from the beginning on. */
  readonly #armed = Promise.withResolvers<void>()

  constructor(host: DestinationHost, coming: readonly ComingDisk[], { fresh, pacing, report }: IncomingParts) {
    this.#host = host
    this.#coming = coming
    this.#sourceConfirmed = fresh
    this.#report = report
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
    if (copiesAhead(course.terms))
      this.#preCopying = new PreCopying({ host, coming, pacing, right, becameReady: () => this.#becameReady() })
    if (this.#isArmed) this.#armed.resolve()
    this.switchover = this.#makeSwitchover()
  }

  #makeSwitchover(): Switchover {
    const { source, note } = this.#host
    return new Switchover({
      host: this.#host,
      coming: this.#coming,
      grants: new Grants(this.#host),
      guests: this.#guests,
      passed: this.#passed.signal,
      acquire: async (asked, signal) => {
        const answer = await source.acquire(asked, signal)
        return answer.answer === 'granted' ? this.#hearBoot(answer) : answer
      },
      isLeaving: () => this.#going !== undefined,
      armed: this.#armed.promise,
      isArmed: () => this.#isArmed,
      copied: (each) => this.#preCopying?.copied(each) ?? {},
      lastMoments: () => this.#lastMoments(),
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

  /** How far the disks are copied ahead of switchover; null: they are not, or are not incoming any more. */
  get ahead(): Ahead | null {
    return this.#isHere && this.#preCopying ? this.#preCopying.ahead : null
  }

  get pace(): Pace {
    return this.#preCopying?.pace ?? still
  }

  /** Why the operator's word cannot be done now, if anything: the end of a sentence. */
  get notYet(): string | undefined {
    const { course } = this.#host
    if (course.terms.mode !== 'pre-copy' || (this.#isArmed && this.#preCopying?.fits)) return undefined
    const left = this.#preCopying?.ahead.leftBytes ?? null
    return left === null ? 'nothing of it is copied yet' : `${left} bytes are still to be copied`
  }

  /** The disk tells of what lands ahead of switchover. */
  landed(coming: ComingDisk, landed: Landed): void {
    this.#preCopying?.landed(coming, landed)
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
    if (course.terms.switchover === 'now' && this.#isArmed) this.switchover.command('operator')
    else if (writersAreGone) this.writersGone()
    await this.#copyAhead(over, working)
  }

  /** Until the disks are not incoming any more. */
  async #copyAhead(over: Promise<void>, working: AbortSignal): Promise<void> {
    const ended = new AbortController()
    const signal = AbortSignal.any([working, this.#passed.signal, ended.signal])
    const copying = this.#preCopying
    const work = copying ? [copying.run(signal), this.#report(signal)] : []
    for (const each of work)
      each.catch((error: unknown) => {
        if (!signal.aborted) this.#host.note(`copying ahead has stopped: ${(error as Error).message}`)
      })
    try {
      await unlessAborted(over, working)
    } finally {
      ended.abort()
      await Promise.allSettled(work)
    }
  }

  /** Whether a guest's first write here switches over. */
  get #isArmed(): boolean {
    const { record, terms } = this.#host.course
    return record.readyAt !== null || !copiesAhead(terms)
  }

  #becameReady(): void {
    const { course, tell } = this.#host
    this.#armed.resolve()
    tell({ kind: 'ready', message: course.readyMessage })
    if (course.terms.switchover === 'now') this.switchover.command('operator')
    else if (this.#isForReaders && this.#readers.any) this.#readerStays()
  }

  /** `--mode pre-copy`: what is left has to fit into the last moments. undefined: it does; else a promise for another look. */
  #lastMoments(): Promise<void> | undefined {
    const copying = this.#preCopying
    if (!copying || this.#host.course.terms.mode !== 'pre-copy' || copying.fits) return undefined
    return copying.hurry()
  }

  /** Every writer at the source has said goodbye: a guest that only reads, and stays, is not served from afar for ever. */
  writersGone(): void {
    if (this.#readers.any && this.#isForReaders) this.switchover.command('reader-only')
  }

  /**
   * The source says that this migration is cancelled, on several ways perhaps at once; or the operator leaves by force.
   * `owner`: as far as is known then. `note`: for the record.
   */
  leave(owner = this.#host.course.record.peerSite, note?: string): Promise<void> {
    this.#going ??= this.#leave(owner, note).finally(() => {
      this.#going = undefined
    })
    return this.#going
  }

  async #leave(owner: string, note: string | undefined): Promise<void> {
    const { course, stopping, update, ending, tell } = this.#host
    const { record } = course
    if (!this.#isHere) return
    const disks = this.#coming.filter((each) => each.isIncoming).map(({ disk }) => disk)
    if (this.switchover.hasGrant) throw tooLate(disks[0]!, record, 'cancelled')
    this.switchover.end(new GuestError('not-served', `migration ${course.id} of ${diskNames(record)} is cancelled`))
    const ended = () => ({ ...ending('cancelled', owner), ...(note !== undefined && { note }) })
    const room = await this.#host.services.freeBytes().catch(() => 0)
    const keeps = (disk: Disk) => isWorthKeeping(disk.allocatedBytes(), room)
    const gone = () => update(ended(), () => disks.map((disk) => disk.arriving.abandon(keeps(disk))))
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
    return this.#isHere && this.#isArmed && this.#host.course.terms.switchover === 'auto'
  }

  #sessionsChanged(): void {
    if (!this.#isHere || this.#host.course.terms.switchover !== 'auto') return
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
