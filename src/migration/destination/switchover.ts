// The destination's side of switchover, from the first write that is held here to the record by which this site owns. The source
// is asked for the grant, of all disks of the move together, until it has answered: on behalf of guests whose writes wait, of
// the operator, or of a grant that may have been made already.
//
// What always holds:
// - From the first question until its answer nobody here knows who owns the disks (`unanswered`). A source that answers `busy`
//   has not granted; a lost answer is asked for again.
// - What the source grants counts only if its deed says so (grants.ts).
// - `arriving` is committed, for all disks in one transaction, before a write to any of them that waited goes on (promise 2).
// - Where a client works at the source the operator's word ends with that answer: it is not asked on until that client
//   happens to pause.

import type { DiskPlan } from '../../disk/plan.ts'
import { GuestError } from '../../guest/export.ts'
import { LinkError } from '../../link/channel.ts'
import type { AcquireAnswer, AcquireReason, AskedDisk, Granted, SourceDesk } from '../counterpart.ts'
import type { GuestsHere } from '../guest-notices.ts'
import { retryDelayMs } from '../retries.ts'
import { leftNote } from '../supersession.ts'
import { unlessAborted } from '../unless-aborted.ts'
import type { ComingDisk } from './coming-disk.ts'
import type { Grants, Taking } from './grants.ts'
import { type DestinationHost, recorded } from './host.ts'
import { type OrderAnswer, Orders } from './orders.ts'

const firstBusyPauseMs = 20
const longestBusyPauseMs = 250
/** Busy answers in a row that are not worth a word. */
const quietTries = 4

export interface SwitchoverParts {
  readonly host: DestinationHost
  readonly coming: readonly ComingDisk[]
  readonly acquire: SourceDesk['acquire']
  readonly grants: Pick<Grants, 'ensureOffered' | 'check'>
  /** Writes that wait, as they are told of. */
  readonly guests: Pick<GuestsHere, 'hold' | 'now'>
  /** Ends when the disks are not incoming any more. */
  readonly passed: AbortSignal
  /** Resolves when a guest's first write switches over: not before what is copied ahead has come so far. */
  readonly armed: Promise<void>
  isArmed(): boolean
  /** What was copied of a disk ahead of switchover. */
  copied(coming: ComingDisk): Pick<AskedDisk, 'copied'>
  /** What is left is to fit into the last moments, and does not: a promise for another look. undefined: it may be asked. */
  lastMoments(): Promise<void> | undefined
  /** Whether the migration is being left here. */
  isLeaving(): boolean
  /** Whether the source has departed to this site. Asks until it is answered. */
  hasDeparted(): Promise<boolean>
  /** The source said no, for good. */
  refused(code: string, message: string): Promise<void>
  /** This site owns, on record. */
  switched(): void
}

interface Waiter {
  readonly settle: PromiseWithResolvers<void>
  /** When the source first answered busy while this one waited. */
  busySince: number | undefined
}

export class Switchover {
  readonly #parts: SwitchoverParts
  readonly #waiters = new Set<Waiter>()
  #command: 'operator' | 'resume' | 'reader-only' | undefined
  /** Of the operator's word. */
  #isForced = false
  /** Operators who wait for an answer. */
  readonly #orders = new Orders()
  #running = false
  #unanswered = false
  #why = 'the source is being asked'
  #ended = false
  #hasGrant = false
  readonly #asking = new AbortController()

  constructor(parts: SwitchoverParts) {
    this.#parts = parts
  }

  get active(): boolean {
    return this.#running
  }

  get unanswered(): boolean {
    return this.#unanswered
  }

  /** The source's grant has arrived: it has given the disk up, and there is no leaving any more. */
  get hasGrant(): boolean {
    return this.#hasGrant
  }

  /** What guests' writes wait for: a sentence's end. */
  get why(): string {
    return this.#why
  }

  /** A guest's write to a disk came, and waits until this site owns. Rejects with a GuestError, or when the guest goes. */
  async hold(diskName: string, signal: AbortSignal): Promise<void> {
    const { host, guests } = this.#parts
    const { course, stopping } = host
    stopping.throwIfAborted()
    if (course.record.state === 'cancelled') throw new GuestError('not-served', `migration ${course.id} is cancelled`)
    const isManual = course.terms.switchover === 'manual' && !this.active
    const isEarly = !this.#parts.isArmed() && !this.active
    await guests.hold(async () => {
      if (isManual) return this.#awaitOperator(diskName, signal)
      if (isEarly && (await this.#awaitArmed(diskName, signal)) === 'passed') return
      await this.#awaitGrant(signal)
    })
  }

  /** `--switchover manual`: a write waits for the operator's word, as long as it would for a busy source. */
  async #awaitOperator(diskName: string, signal: AbortSignal): Promise<void> {
    const { course } = this.#parts.host
    if ((await this.#awaitOrRefuse(signal)) === 'passed') return
    const byHand = `${diskName} is switched over by hand: vmstore migration switchover ${course.id}`
    throw new GuestError('not-permitted', byHand)
  }

  /** What is copied ahead has not come so far: the write waits for that, as long as it would for a busy source. */
  async #awaitArmed(diskName: string, signal: AbortSignal): Promise<'armed' | 'passed'> {
    const { armed, host } = this.#parts
    const how = await this.#awaitOrRefuse(signal, armed)
    if (how !== 'late') return how
    const early = `${diskName} is still being copied ahead of its switchover: move its machine when it is ready, or switch over now: vmstore migration switchover ${host.course.id}`
    throw new GuestError('not-permitted', early)
  }

  /** Until the disks are not incoming any more, or `until` resolves, or a busy source would have kept it waiting for too long. */
  async #awaitOrRefuse(signal: AbortSignal, until?: Promise<void>): Promise<'passed' | 'armed' | 'late'> {
    const { host, passed } = this.#parts
    const { course, services, stopping } = host
    const over = new AbortController()
    const either = AbortSignal.any([signal, passed, over.signal])
    const slept = services.clock.sleep(course.terms.switchoverWaitMs, either).then(
      () => 'late' as const,
      () => 'passed' as const,
    )
    const how = await Promise.race([slept, ...(until ? [until.then(() => 'armed' as const)] : [])])
    over.abort()
    signal.throwIfAborted()
    stopping.throwIfAborted() // Only the end of waiting lets the write go on.
    return how
  }

  async #awaitGrant(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const waiter: Waiter = { settle: Promise.withResolvers(), busySince: undefined }
    const goes = () => waiter.settle.reject(signal.reason)
    signal.addEventListener('abort', goes, { once: true })
    this.#waiters.add(waiter)
    this.#run()
    try {
      await waiter.settle.promise
    } finally {
      signal.removeEventListener('abort', goes)
      this.#waiters.delete(waiter)
    }
  }

  /** The operator's word. Resolves when the source has answered it, or not in time: then it is asked on. */
  order(force: boolean, signal: AbortSignal): Promise<OrderAnswer> {
    return this.#orders.place(force, this.#parts.host.services.clock, signal, () => {
      this.#isForced ||= force
      this.command('operator')
    })
  }

  /** operator, resume: ask until it is answered. reader-only: ask once, a busy answer ends it. */
  command(reason: 'operator' | 'resume' | 'reader-only'): void {
    if (this.#command !== 'operator' && this.#command !== 'resume') this.#command = reason
    this.#run()
  }

  /** The migration is over here: nobody is asked any more, and those who wait hear why. */
  end(error: Error): void {
    this.#ended = true
    this.#forget()
    this.#asking.abort(error) // A question that still waits for the link is not asked any more.
    this.#rejectAll(error)
  }

  #run(): void {
    if (this.#ended) this.#rejectAll(new GuestError('not-served', 'the migration is over'))
    const { stopping } = this.#parts.host
    if (stopping.aborted) this.#rejectAll(new GuestError('not-served', 'this site is stopping'))
    if (this.#ended || this.#running || stopping.aborted) return
    this.#running = true
    this.#ask()
      .catch((error: unknown) =>
        this.#rejectAll(new GuestError('io', `switchover: ${(error as Error).message}`, { cause: error })),
      )
      .finally(() => {
        this.#running = false
        // Somebody may have come while the last answer was dealt with.
        if (this.#isAsked && this.#isWanted) this.#run()
        else this.#orders.tell(this.#orders.all, undefined)
      })
  }

  get #isAsked(): boolean {
    return this.#waiters.size > 0 || this.#command !== undefined
  }

  /** Whether there is still something to ask for. */
  get #isWanted(): boolean {
    return this.#parts.coming.some((each) => each.isIncoming) && !this.#parts.isLeaving()
  }

  async #ask(): Promise<void> {
    const { services, stopping, note } = this.#parts.host
    const { clock } = services
    let last: string | null = null
    for (let failures = 0, busy = 0; this.#isAsked || this.#unanswered; ) {
      stopping.throwIfAborted()
      if (!this.#isWanted) return
      if (!this.#isAsked) {
        // Whoever asked is gone, and the question was not answered: it may have been granted all the same.
        if (await this.#parts.hasDeparted()) this.#command ??= 'resume'
        else this.#unanswered = false
        continue
      }
      const isFirst = this.#command !== 'resume' && !this.#unanswered
      const toCome = isFirst ? this.#parts.lastMoments() : undefined
      if (toCome) {
        this.#why = 'the last of what is copied ahead is still to come'
        await unlessAborted(toCome, AbortSignal.any([stopping, this.#asking.signal]))
        continue
      }
      const reason = this.#command ?? 'guest-write'
      const force = reason === 'operator' && this.#isForced
      const orders = reason === 'guest-write' ? [] : this.#orders.all
      this.#unanswered = true
      const askedMs = clock.now()
      let answer: AcquireAnswer
      let taking: Taking | undefined
      try {
        ;({ answer, taking } = await this.#acquire(reason, force))
        failures = 0
      } catch (error) {
        stopping.throwIfAborted()
        if (this.#ended) return
        this.#orders.tell(orders, undefined)
        for (const waiter of this.#waiters) waiter.busySince = undefined // Only a source that answers counts as busy.
        const lost = error instanceof LinkError
        this.#why = lost ? 'the source is out of reach' : `the source could not answer: ${(error as Error).message}`
        note(lost ? `${this.#why}: switchover waits for it` : this.#why)
        await clock.sleep(retryDelayMs(++failures), stopping)
        continue
      }
      if (answer.answer === 'granted') {
        // A destination that has left meanwhile takes nothing: its operator said so, and was told what it may strand.
        if (!this.#isWanted) return
        await this.#granted(answer, taking!, askedMs)
        return this.#orders.tell(orders, answer)
      }
      this.#unanswered = false
      if (answer.answer === 'refused') {
        this.#orders.tell(orders, answer)
        return this.#refused(answer.code, answer.message)
      }
      this.#why = `at the source, ${answer.why}`
      if (reason === 'reader-only') {
        if (this.#command === reason) this.#command = undefined // The operator may have spoken meanwhile.
      } else if (answer.isAtWork || answer.isOwners) {
        // An operator who has waited is told; else it is noted, for nobody waits any more.
        const told = this.#orders.all.filter((order) => answer.isOwners || !order.force)
        if (told.length === 0) last = notSwitched(this.#why, answer)
        this.#orders.tell(told, answer)
        if (this.#isForced === force) this.#forget() // A word that came meanwhile is asked for.
        if (!this.#isAsked) break
      } else if (busy > quietTries) note(`switchover waits: ${this.#why}`)
      if (!answer.isAtWork && !answer.isOwners) this.#orders.tell(orders, undefined)
      this.#expire(answer.why)
      await clock.sleep(Math.min(longestBusyPauseMs, firstBusyPauseMs * 2 ** Math.min(busy++, 8)), stopping)
    }
    note(last)
  }

  async #acquire(
    reason: AcquireReason,
    force: boolean,
  ): Promise<{ readonly answer: AcquireAnswer; readonly taking?: Taking }> {
    const { host, acquire, grants } = this.#parts
    const signal = AbortSignal.any([host.stopping, this.#asking.signal])
    const asked = this.#parts.coming.filter((each) => each.isIncoming)
    await grants.ensureOffered(asked, signal)
    const disks = asked.map((each) => ({ ...each.frozen, ...this.#parts.copied(each) }))
    const answer = await acquire({ disks, reason, force }, signal)
    return answer.answer === 'granted' ? { answer, taking: await grants.check(asked, answer, signal) } : { answer }
  }

  /** The operator's word, or what else was to be asked for, is answered. */
  #forget(): void {
    this.#command = undefined
    this.#isForced = false
  }

  /** Makes the grant durable here, however long it takes: the source has given up. Then writes that waited go on. */
  async #granted({ cutOff }: Granted, { taken, left }: Taking, askedMs: number): Promise<void> {
    const { host, guests, switched } = this.#parts
    const { services, update } = host
    this.#hasGrant = true // From here on there is no leaving.
    const begin = async () => {
      const plans: DiskPlan[] = left.map(({ coming: { disk } }) => disk.arriving.abandon())
      for (const { coming, powerLoss, deed, final } of taken) {
        plans.push(await coming.disk.arriving.begin(coming.frozen.generation, powerLoss, deed, final))
      }
      return plans
    }
    const own = () => {
      const switchoverMs = services.clock.now() - askedMs
      const changes = { state: 'copying', switchedAt: host.now(), switchoverMs, cutOff }
      const owned = taken.map(({ coming: { id } }) => [id, { owner: services.siteId }])
      const gone = left.map(({ coming: { id }, by }) => [id, { owner: by.owner, hasLeft: true }])
      const disks = Object.fromEntries([...owned, ...gone])
      return update({ ...changes, refusedWrites: guests.now.refused, disks }, begin)
    }
    const theirs = taken.map(({ coming }) => coming.disk)
    await recorded(host, theirs, `that this site owns ${theirs.length > 1 ? 'them' : 'it'} now`, own, host.stopping)
    for (const { coming, by } of left) {
      coming.hasLeft()
      host.tell({ kind: 'step', message: leftNote(coming.name, by) })
    }
    for (const { coming } of taken) coming.countMissing()
    host.tellCutOff()
    host.tell({ kind: 'switchover' })
    switched()
    this.#unanswered = false
    this.#ended = true
    this.#forget()
    host.note(null)
    for (const waiter of this.#waiters) waiter.settle.resolve()
  }

  async #refused(code: string, message: string): Promise<void> {
    this.#forget()
    await this.#parts.refused(code, message)
    this.#rejectAll(new GuestError('not-served', message))
  }

  /** Gives up on writes that a busy source has kept waiting for too long. */
  #expire(why: string): void {
    const { course, services } = this.#parts.host
    const now = services.clock.now()
    for (const waiter of this.#waiters) {
      waiter.busySince ??= now
      if (now - waiter.busySince < course.terms.switchoverWaitMs) continue
      waiter.settle.reject(new GuestError('not-permitted', `not switched over: at the source, ${why}`))
      this.#waiters.delete(waiter)
    }
  }

  #rejectAll(error: Error): void {
    for (const waiter of this.#waiters) waiter.settle.reject(error)
    this.#waiters.clear()
    this.#orders.tell(this.#orders.all, undefined)
  }
}

/** For the note of a move of which nobody waits. */
function notSwitched(why: string, { isOwners }: Extract<AcquireAnswer, { answer: 'busy' }>): string {
  if (isOwners) return `not switched over: ${why}`
  return `not switched over: ${why}. When the machine is off or has moved, say vmstore migration switchover; with --force that client is cut off`
}
