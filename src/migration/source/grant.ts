// The source's side of switchover: decides whether a destination that asks is given the disk, freezes it, and gives it up.
//
// What always holds:
// - `departed` is committed before the grant leaves (promise 2). The same acquire is answered the same, until `taken`.
// - Whether it is quiet is looked at in the same synchronous step in which the disk freezes. The operator's word needs less:
//   that no client which is attached here is at work; and `--force` nothing, but it is said and recorded whom it cut off.
// - From the first attempt to commit on the disk stays frozen until a record is durable: till then nobody knows who owns it.
// - A disk that is void is granted to nobody, also where that was heard while its grant was being recorded.
// Whoever calls lets one question end before the next, a cancel, or a taking back begins.

import type { Clock } from '../../block/clock.ts'
import type { Disk } from '../../disk/disk.ts'
import type { MigrationRecord, MovedDisk } from '../../store/records.ts'
import type { AcquireAnswer, Acquisition, SourceStanding } from '../counterpart.ts'
import type { Course, Plans } from '../course.ts'
import { namedClients } from '../held-writes.ts'
import type { MoveChanges } from '../move.ts'
import { voidRefusal } from '../supersession.ts'

const commitRetryMs = 1000
/** A hypervisor with reconnect-delay is back within this time, if its guest has anything to do. Less than --switchover-wait. */
const returnGraceMs = 5000

export interface GrantParts {
  readonly course: Course
  readonly clock: Clock
  readonly bootId: string
  readonly signal: AbortSignal
  /** Whether the disk is in this migration, and no other. */
  isCurrent(): boolean
  /** Whether a commit that takes the disk back was tried. */
  isReclaiming(): boolean
  /** Commits a change of the record together with what becomes of disks. @throws what the commit throws */
  update(changes: MoveChanges, plans: Plans): Promise<void>
  /** Time of day. */
  now(): string
  note(sentence: string | null): void
  /** The disk was given up, and its record is durable. */
  granted(): void
}

export class Grant {
  readonly #parts: GrantParts
  #granting = false
  #frozen = false
  #cutOff: readonly string[] = []
  #returnsUntilMs = 0

  constructor(parts: GrantParts) {
    this.#parts = parts
  }

  get isBeingMade(): boolean {
    return this.#granting
  }

  /** The disk is frozen, and it is not known yet whether it is given away. */
  get isOpen(): boolean {
    return this.#frozen
  }

  /** The daemon has just started, its sessions are forgotten: a guest that runs is given the time to come back. */
  waitForReturns(): void {
    this.#returnsUntilMs = this.#parts.clock.now() + returnGraceMs
  }

  /** The disk is superseded, durably: there is nothing to give any more. */
  close(): void {
    if (this.#frozen) this.#disk.gate.thaw()
    this.#frozen = false
  }

  /** How the migration stands, for a destination that asks. */
  standing(): SourceStanding {
    const { state } = this.#record
    const answer = (word: SourceStanding['state']): SourceStanding => ({
      state: word,
      writersAreGone: this.#disk.sessions.writersAreGone,
      sessions: this.#disk.sessions.count,
      boot: this.#parts.bootId,
    })
    if (state === 'cancelled' || state === 'failed') return answer('cancelled')
    if (state === 'done') return answer('released')
    if (this.#disk.state === 'departed') return answer(this.#disk.record.taken ? 'taken' : 'departed')
    if (this.#frozen) return answer('unknown')
    return answer(state === 'preparing' ? 'preparing' : 'ready')
  }

  /** Gives the disk to the destination, or says why not. Rejects only when the site stops. */
  async acquire(message: Acquisition): Promise<AcquireAnswer> {
    const [disk, record] = [this.#disk, this.#record]
    if (record.state === 'cancelled' || record.state === 'failed') {
      return {
        answer: 'refused',
        code: 'cancelled',
        message: `migration ${record.id} is cancelled; the source owns ${disk.name}`,
      }
    }
    if (!this.#isMeant(message) || !this.#parts.isCurrent()) {
      return {
        answer: 'refused',
        code: 'stale',
        message: `migration ${record.id} leads to generation ${this.#moved.generation}`,
      }
    }
    if (disk.isVoid) return voidRefusal(disk)
    if (this.#parts.isReclaiming()) return busy('the disk is being taken back there')
    if (disk.state !== 'owned') return this.#grantAgain()
    if (record.state === 'preparing') return busy('the source has not recorded yet that all is prepared')
    if (disk.isHeld) return busy(`power was lost there, and ${disk.name} waits for vmstore disk accept`)
    this.#granting = true
    try {
      return await this.#grant(message)
    } finally {
      this.#granting = false
    }
  }

  get #disk(): Disk {
    return this.#parts.course.disk
  }

  /** As of its last commit. */
  get #record(): MigrationRecord {
    return this.#parts.course.record
  }

  get #moved(): MovedDisk {
    return this.#parts.course.moved(this.#parts.course.disk)
  }

  /** Whether it is asked for what this migration moves, and no other disk. */
  #isMeant({ disks }: Acquisition): boolean {
    const [asked] = disks
    return disks.length === 1 && asked?.disk === this.#disk.record.id && asked.generation === this.#moved.generation
  }

  async #grant(message: Acquisition): Promise<AcquireAnswer> {
    const disk = this.#disk
    const startedMs = this.#parts.clock.now()
    const busyBefore = this.#busy(message)
    if (busyBefore) return busyBefore
    if (!this.#frozen) {
      try {
        await disk.flush() // The guest goes on meanwhile; what the freeze has to sync is then little.
      } catch (error) {
        return this.#syncFailed(error)
      }
      const busyAfter = this.#busy(message)
      if (busyAfter) return busyAfter
      await disk.gate.freeze()
      this.#frozen = true
      try {
        await disk.flush()
      } catch (error) {
        this.#frozen = false
        disk.gate.thaw()
        return this.#syncFailed(error)
      }
      // A write that came while it froze is held, and nothing is on record yet: its guest runs, and goes on here.
      // So does one that has come and reads only.
      const awoke = this.#awoke(message)
      if (awoke) {
        this.#frozen = false
        disk.gate.thaw()
        return awoke
      }
      this.#cutOff = message.reason === 'operator' ? disk.sessions.attachedWriters().slice(0, namedClients) : []
    }
    await this.#commitDeparted(startedMs)
    this.#frozen = false
    disk.gate.thaw()
    // What may be on record has not left this site; whoever superseded the disk holds its guests.
    if (disk.isVoid) {
      this.#parts.note(null)
      return voidRefusal(disk)
    }
    this.#parts.granted()
    return this.#granted
  }

  /** Why the disk is not given away now, if anything. */
  #busy(message: Acquisition): AcquireAnswer | undefined {
    const { sessions } = this.#disk
    if (message.reason === 'reader-only' && !sessions.writersAreGone)
      return busy('a session that has written is open, or broke')
    if (this.#frozen || message.reason === 'resume') return undefined
    if (message.reason === 'operator') return this.#atWork(message)
    if (this.#parts.clock.now() < this.#returnsUntilMs)
      return busy('vmstore has just started, and clients may be coming back')
    const why = sessions.busyReason()
    return why === undefined ? undefined : busy(why)
  }

  /** Who came while the disk froze, if anybody. */
  #awoke(message: Acquisition): AcquireAnswer | undefined {
    const { sessions } = this.#disk
    if (message.reason === 'resume') return undefined
    if (message.reason === 'operator') return this.#atWork(message)
    const came = message.reason === 'reader-only' && !sessions.writersAreGone ? 'somebody has come back' : undefined
    const why = sessions.busyReason() ?? came
    return why === undefined ? undefined : busy(why)
  }

  /** A client that the operator's word would cut off, unless it was forced, now or in the terms of a move `now`. */
  #atWork({ force }: Acquisition): AcquireAnswer | undefined {
    const { terms, id } = this.#parts.course
    if (force || terms.force) return undefined
    const why = this.#disk.sessions.attachedReason()
    if (why === undefined) return undefined
    if (terms.switchover === 'now')
      this.#parts.note(
        `not switched over: ${why}. When the machine is off or has moved: vmstore migration switchover ${id}; with --force that client is cut off`,
      )
    return { answer: 'busy', why, isAtWork: true }
  }

  /** From the first attempt on there is no way back: the disk stays frozen until a record is durable; or it is void. */
  async #commitDeparted(startedMs: number): Promise<void> {
    const { clock, note, signal } = this.#parts
    while (!this.#disk.isVoid) {
      try {
        await this.#depart(clock.now() - startedMs)
        note(null)
        return
      } catch (error) {
        note(
          `the grant of ${this.#disk.name} cannot be recorded (${(error as Error).message}); the disk stays frozen until it can`,
        )
        await clock.sleep(commitRetryMs, signal)
      }
    }
  }

  /** The disk `departed` and the migration copying, in one transaction. */
  #depart(switchoverMs: number): Promise<void> {
    const { bootId: sourceBoot, update, now } = this.#parts
    const { generation } = this.#moved
    const owner = this.#record.peerSite
    const switched = {
      switchedAt: now(),
      switchoverMs,
      cutOff: this.#cutOff,
      sourceBoot,
      disks: { [this.#disk.id]: { owner } },
    }
    return update({ state: 'copying', ...switched }, [this.#disk.departing.depart({ generation, owner })])
  }

  get #granted(): AcquireAnswer {
    const { sourceBoot, cutOff } = this.#record
    const { generation } = this.#moved
    const { powerLoss } = this.#disk.record
    const disks = [{ disk: this.#disk.record.id, generation, powerLoss }]
    return { answer: 'granted', disks, boot: sourceBoot, cutOff }
  }

  #grantAgain(): AcquireAnswer {
    const disk = this.#disk
    const { generation } = this.#moved
    const isGiven = disk.state === 'departed' && disk.record.generation === generation
    const ours = isGiven && disk.record.owner === this.#record.peerSite
    if (ours && !disk.record.taken) return this.#granted
    const message = `generation ${generation} of ${disk.name} was taken already; the site that asks was restored from an old copy`
    return { answer: 'refused', code: 'already-taken', message }
  }

  #syncFailed(error: unknown): AcquireAnswer {
    const message = `the source could not sync ${this.#disk.name} (${(error as Error).message}) and goes on owning it`
    return { answer: 'refused', code: 'sync-failed', message }
  }
}

function busy(why: string): AcquireAnswer {
  return { answer: 'busy', why, isAtWork: false }
}
