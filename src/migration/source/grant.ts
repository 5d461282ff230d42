// The source's side of switchover: decides whether a destination that asks is given the disks, freezes them, and gives them up.
//
// What always holds:
// - `departed` is committed before the grant leaves (promise 2). The same acquire is answered the same, until `taken`.
// - Disks of one move pass together: all gates close in one synchronous step, so that what is frozen is one cut through the
//   writes of all of them, and one transaction gives them all up. Nothing is granted of one alone.
// - Whether they are quiet is looked at in the same synchronous step in which they freeze. The operator's word needs less:
//   that no client which is attached here is at work; and `--force` nothing, but it is said and recorded whom it cut off.
//   Whose word counts as the operator's is in word.ts: a destination cannot give it to itself.
// - What the destination has copied before counts only if the map of what it lacks was durable, with its disk frozen, before the
//   disk was given up; the record names it, so that it is answered the same. Else everything is lacking.
// - From the first attempt to commit on they stay frozen until a record is durable: till then nobody knows who owns them.
// - A disk that is void is granted to nobody, also where that was heard while its grant was being recorded.
// - What is granted is an entry of the disk's deed, signed once: that which is on record is answered again, to the last byte.
// Whoever calls lets one question end before the next, a cancel, or a taking back begins.

import type { Clock } from '../../block/clock.ts'
import type { SigningKey } from '../../deed/keys.ts'
import type { Disk } from '../../disk/disk.ts'
import type { MigrationRecord } from '../../store/records.ts'
import type {
  AcquireAnswer,
  Acquisition,
  AskedDisk,
  DiskAt,
  FinalMap,
  GrantedDisk,
  SourceStanding,
} from '../counterpart.ts'
import type { Course, Plans } from '../course.ts'
import { namedClients } from '../held-writes.ts'
import { diskNames, type MoveChanges, ofEach } from '../move.ts'
import { voidRefusal } from '../supersession.ts'
import { attachedReason, attachedWriters, busyReason, sessionCount, writersAreGone } from './attached.ts'
import { Gifts, undeeded } from './gifts.ts'
import { unheardBusy, type Weighed, weighed } from './word.ts'

const commitRetryMs = 1000
/** A hypervisor with reconnect-delay is back within this time, if its guest has anything to do. Less than --switchover-wait. */
const returnGraceMs = 5000

export interface GrantParts {
  readonly course: Course
  readonly clock: Clock
  readonly bootId: string
  readonly key: SigningKey
  readonly signal: AbortSignal
  /** Whether the disks are in this migration, and no other. */
  isCurrent(): boolean
  /** Whether a commit that takes the disks back was tried. */
  isReclaiming(): boolean
  /** Commits a change of the record together with what becomes of disks. @throws what the commit throws */
  update(changes: MoveChanges, plans: Plans): Promise<void>
  /** Time of day. */
  now(): string
  note(sentence: string | null): void
  /** The disks were given up, and that is durable. */
  granted(): void
}

export class Grant {
  readonly #parts: GrantParts
  #granting = false
  /** Those that are held for a grant. */
  #frozen: readonly Disk[] = []
  /** Of each that is frozen: the epoch whose map is durable as the disk is now. */
  #epochs: ReadonlyMap<string, string | null> = new Map()
  #cutOff: readonly string[] = []
  readonly #gifts: Gifts
  #returnsUntilMs = 0

  constructor(parts: GrantParts) {
    this.#parts = parts
    this.#gifts = new Gifts(parts.key)
  }

  get isBeingMade(): boolean {
    return this.#granting
  }

  /** The disks are frozen, and it is not known yet whether they are given away. */
  get isOpen(): boolean {
    return this.#frozen.length > 0
  }

  /** The daemon has just started, its sessions are forgotten: a guest that runs is given the time to come back. */
  waitForReturns(): void {
    this.#returnsUntilMs = this.#parts.clock.now() + returnGraceMs
  }

  /** The move is over, durably: there is nothing to give any more. */
  close(): void {
    this.#thaw()
  }

  /** How the migration stands, for a destination that asks. */
  standing(): SourceStanding {
    const { state } = this.#record
    const disks = this.#disks
    const answer = (word: SourceStanding['state']): SourceStanding => ({
      state: word,
      writersAreGone: writersAreGone(disks),
      sessions: sessionCount(disks),
      boot: this.#parts.bootId,
    })
    if (state === 'cancelled' || state === 'failed') return answer('cancelled')
    if (state === 'done') return answer('released')
    if (disks.some((disk) => disk.state === 'departed'))
      return answer(disks.some(({ record }) => record.taken) ? 'taken' : 'departed')
    if (this.isOpen) return answer('unknown')
    return answer(state === 'preparing' ? 'preparing' : 'ready')
  }

  /** Gives the disks to the destination, or says why not. Rejects only when the site stops. */
  async acquire(message: Acquisition): Promise<AcquireAnswer> {
    const [disks, record] = [this.#disks, this.#record]
    if (record.state === 'cancelled' || record.state === 'failed') {
      return {
        answer: 'refused',
        code: 'cancelled',
        message: `migration ${record.id} is cancelled; the source owns ${diskNames(record)}`,
      }
    }
    if (!this.#isMeant(message) || !this.#parts.isCurrent()) {
      const generations = record.disks.map(({ name, generation }) =>
        record.disks.length > 1 ? `${generation} of ${name}` : generation,
      )
      const text = `migration ${record.id} leads to generation ${generations.join(', ')}`
      return { answer: 'refused', code: 'stale', message: text }
    }
    const elsewhere = disks.find((disk) => disk.isVoid)
    if (elsewhere) return voidRefusal(elsewhere)
    if (this.#parts.isReclaiming())
      return busy(`the ${disks.length > 1 ? 'disks are' : 'disk is'} being taken back there`)
    if (disks.some((disk) => disk.state !== 'owned')) return this.#grantAgain(message)
    if (record.state === 'preparing') return busy('the source has not recorded yet that all is prepared')
    const held = disks.find((disk) => disk.isHeld)
    if (held) return busy(`power was lost there, and ${held.name} waits for vmstore disk accept`)
    const asked = weighed(message, record, this.#parts.course.terms)
    if ('answer' in asked && !this.isOpen) return asked
    this.#granting = true
    try {
      // Frozen disks were granted once, and only their record is lacking.
      return await this.#grant('answer' in asked ? frozenAlready : asked, message)
    } finally {
      this.#granting = false
    }
  }

  /** Those that have not left the move. */
  get #disks(): readonly Disk[] {
    return this.#parts.course.inMove
  }

  /** As of its last commit. */
  get #record(): MigrationRecord {
    return this.#parts.course.record
  }

  get #names(): string {
    return this.#disks.map(({ name }) => name).join(', ')
  }

  /**
   * Whether it is asked for all that this migration moves, and for no other disk. A destination that has not heard of the first
   * grant asks for those too that have left since: it is granted those that are left.
   */
  #isMeant({ disks: asked }: Acquisition): boolean {
    const { disks } = this.#record
    const isIts = ({ disk: id, generation }: DiskAt) =>
      disks.some((disk) => disk.id === id && disk.generation === generation)
    const isAsked = ({ id }: Disk) => asked.some((each) => each.disk === id)
    const isOnce = new Set(asked.map(({ disk }) => disk)).size === asked.length
    return isOnce && asked.every(isIts) && this.#disks.every(isAsked)
  }

  async #grant(message: Weighed, asked: Acquisition): Promise<AcquireAnswer> {
    const disks = this.#disks
    const startedMs = this.#parts.clock.now()
    const busyBefore = this.#busy(message)
    if (busyBefore) return busyBefore
    if (!this.isOpen) {
      const unsigned = this.#gifts.sign(this.#parts.course, this.#parts.now())
      if (unsigned) return unsigned
      // The guest goes on meanwhile; what the freeze has to sync is then little.
      const [failedBefore] = await Promise.all([this.#flush(disks), ...disks.map((disk) => settleMap(disk, asked))])
      if (failedBefore) return failedBefore
      const busyAfter = this.#busy(message)
      if (busyAfter) return busyAfter
      // All gates close in this step: a write of one disk that began after another was frozen is not let through.
      await Promise.all(disks.map(({ gate }) => gate.freeze()))
      this.#frozen = disks
      const mapped = this.#freezeMaps(disks) // Beside the sync.
      const failed = await this.#flush(disks)
      await mapped
      if (failed) {
        this.#thaw()
        return failed
      }
      // A write that came while they froze is held, and nothing is on record yet: its guest runs, and goes on here.
      // So does one that has come and reads only.
      const awoke = this.#awoke(message)
      if (awoke) {
        this.#thaw()
        return awoke
      }
      this.#cutOff = message.reason === 'operator' ? attachedWriters(disks).slice(0, namedClients) : []
    }
    const isRecorded = await this.#commitDeparted(startedMs)
    // What may be on record has not left this site; whoever superseded a disk holds its guests, and ends the move if that is
    // not on record (`close`): until then the other disks are held too, for nobody knows who owns them.
    const elsewhere = disks.find((disk) => disk.isVoid)
    if (isRecorded || disks.length === 1) this.#thaw()
    if (elsewhere) {
      this.#parts.note(null)
      return voidRefusal(elsewhere)
    }
    this.#parts.granted()
    return this.#granted(asked)
  }

  /** What was copied before counts only if that is durable before the disks are given up. Never rejects. */
  async #freezeMaps(disks: readonly Disk[]): Promise<void> {
    const epochs = disks.map(async (disk) => [disk.id, await disk.departing.tracking.freeze()] as const)
    this.#epochs = new Map(await Promise.all(epochs))
  }

  #thaw(): void {
    for (const { gate, departing } of this.#frozen) {
      departing.tracking.thaw()
      gate.thaw()
    }
    this.#frozen = []
  }

  /** Syncs all of them. Resolves to the refusal when one could not be, once none is being synced any more. */
  async #flush(disks: readonly Disk[]): Promise<AcquireAnswer | undefined> {
    const outcomes = await Promise.allSettled(disks.map((disk) => disk.flush()))
    for (const [index, outcome] of outcomes.entries())
      if (outcome.status === 'rejected') return syncFailed(disks[index]!, outcome.reason)
    return undefined
  }

  /** Why the disks are not given away now, if anything. */
  #busy(message: Weighed): AcquireAnswer | undefined {
    const disks = this.#disks
    if (message.reason === 'reader-only' && !writersAreGone(disks))
      return busy('a session that has written is open, or broke')
    if (this.isOpen) return undefined
    if (message.reason === 'operator') return this.#atWork(message)
    if (this.#parts.clock.now() < this.#returnsUntilMs)
      return busy('vmstore has just started, and clients may be coming back')
    const why = busyReason(disks)
    if (why !== undefined && message.unheard)
      return unheardBusy(this.#record, message.unheard, why, attachedReason(disks) !== undefined)
    return why === undefined ? undefined : busy(why)
  }

  /** Who came while the disks froze, if anybody. */
  #awoke(message: Weighed): AcquireAnswer | undefined {
    const disks = this.#disks
    if (message.reason === 'operator') return this.#atWork(message)
    const came = message.reason === 'reader-only' && !writersAreGone(disks) ? 'somebody has come back' : undefined
    const why = busyReason(disks) ?? came
    return why === undefined ? undefined : busy(why)
  }

  /** A client that the operator's word would cut off, unless it was forced, now or in the terms of a move `now`. */
  #atWork({ force, unheard }: Weighed): AcquireAnswer | undefined {
    const { terms, id } = this.#parts.course
    if (force) return undefined
    const why = attachedReason(this.#disks)
    if (why === undefined) return undefined
    if (unheard) return unheardBusy(this.#record, unheard, why, true)
    if (terms.switchover === 'now')
      this.#parts.note(
        `not switched over: ${why}. When the machine is off or has moved: vmstore migration switchover ${id}; with --force that client is cut off`,
      )
    return { answer: 'busy', why, isAtWork: true }
  }

  /**
   * From the first attempt on there is no way back: the disks stay frozen until a record is durable; or one of them is void.
   * Resolves to whether it is on record.
   */
  async #commitDeparted(startedMs: number): Promise<boolean> {
    const { clock, note, signal } = this.#parts
    while (!this.#disks.some((disk) => disk.isVoid)) {
      try {
        await this.#depart(clock.now() - startedMs)
        note(null)
        return true
      } catch (error) {
        const stay = this.#disks.length > 1 ? 'the disks stay' : 'the disk stays'
        note(
          `the grant of ${this.#names} cannot be recorded (${(error as Error).message}); ${stay} frozen until it can`,
        )
        await clock.sleep(commitRetryMs, signal)
      }
    }
    return false
  }

  /** The disks `departed` and the migration copying, in one transaction. */
  #depart(switchoverMs: number): Promise<void> {
    const { bootId: sourceBoot, course, update, now } = this.#parts
    const owner = this.#record.peerSite
    const disks = ofEach(this.#record, () => ({ owner }))
    const departed = this.#disks.map((disk) =>
      disk.departing.depart({
        generation: course.moved(disk).generation,
        owner,
        deed: this.#gifts.of(disk),
        dirtyEpoch: this.#epochs.get(disk.id) ?? null,
      }),
    )
    const switched = { switchedAt: now(), switchoverMs, cutOff: this.#cutOff, sourceBoot, disks }
    return update({ state: 'copying', ...switched }, departed)
  }

  async #granted({ disks: asked }: Acquisition): Promise<AcquireAnswer> {
    const { sourceBoot, cutOff } = this.#record
    const disks: GrantedDisk[] = []
    for (const disk of this.#disks) {
      const { generation } = this.#parts.course.moved(disk)
      const final = await finalMap(disk, asked.find((each) => each.disk === disk.id)?.copied)
      const { deed, powerLoss } = disk.record
      disks.push({ disk: disk.id, generation, given: deed!.at(-1)!, powerLoss, ...(final && { final }) })
    }
    return { answer: 'granted', disks, boot: sourceBoot, cutOff }
  }

  async #grantAgain(message: Acquisition): Promise<AcquireAnswer> {
    for (const disk of this.#disks) {
      const { generation } = this.#parts.course.moved(disk)
      const isGiven = disk.state === 'departed' && disk.record.generation === generation
      const ours = isGiven && disk.record.owner === this.#record.peerSite
      if (isGiven && disk.record.deed === null) return undeeded(disk)
      if (ours && !disk.record.taken) continue
      const text = `generation ${generation} of ${disk.name} was taken already; the site that asks was restored from an old copy`
      return { answer: 'refused', code: 'already-taken', message: text }
    }
    return this.#granted(message)
  }
}

/** Before the freeze, of which the guest feels nothing: what has come since the last question is clean. Never rejects. */
async function settleMap({ id, departing: { tracking } }: Disk, { disks }: Acquisition): Promise<void> {
  const copied = disks.find(({ disk }) => disk === id)?.copied
  if (copied) await tracking.confirm(copied)
  await tracking.sync()
}

/** What of the disk its destination lacks, if something of what it has counts. */
async function finalMap(disk: Disk, copied: AskedDisk['copied']): Promise<FinalMap | undefined> {
  if (!copied) return undefined
  const dirty = await disk.departing.tracking.final(copied)
  return dirty?.blocks === copied.blocks ? { epoch: copied.epoch, dirty } : undefined
}

function syncFailed({ name }: Disk, error: unknown): AcquireAnswer {
  const message = `the source could not sync ${name} (${(error as Error).message}) and goes on owning it`
  return { answer: 'refused', code: 'sync-failed', message }
}

const frozenAlready: Weighed = { reason: 'guest-write', force: false, unheard: undefined }

function busy(why: string): AcquireAnswer {
  return { answer: 'busy', why, isAtWork: false }
}
