// Asks the source for the grant until it is answered, on behalf of guests whose writes wait, of the operator, or of a
// grant that may have been made already. Knows no disk: `granted` makes the grant durable here.
//
// What always holds: from the first question until its answer nobody here knows who owns the disk (`unanswered`). A source
// that answers `busy` has not granted; a lost answer is asked for again. Where a client works at the source the operator's
// word ends with that answer: it is not asked on until that client happens to pause.

import type { Clock } from '../../block/clock.ts'
import { GuestError } from '../../guest/export.ts'
import { LinkError } from '../../link/channel.ts'
import type { AcquireAnswer, AcquireReason, Granted } from '../counterpart.ts'
import { retryDelayMs } from '../retries.ts'

const firstBusyPauseMs = 20
const longestBusyPauseMs = 250
/** Busy answers in a row that are not worth a word. */
const quietTries = 4

export interface SwitchoverParts {
  readonly clock: Clock
  /** How long a guest's write waits for a source that answers busy. */
  readonly waitMs: number
  readonly signal: AbortSignal
  /** Whether there is still something to ask for. */
  isWanted(): boolean
  acquire(reason: AcquireReason, force: boolean, signal: AbortSignal): Promise<AcquireAnswer>
  /** Whether the source has departed to this site. Asks until it is answered. */
  hasDeparted(): Promise<boolean>
  /** The grant arrived, for a question that was asked at `askedMs`: resolves once this site owns, durably. */
  granted(grant: Granted, askedMs: number): Promise<void>
  /** The source said no, for good. */
  refused(code: string, message: string): Promise<void>
  note(sentence: string | null): void
}

/** What the source says to the operator; undefined: it is asked on. */
export type OrderAnswer = AcquireAnswer | undefined

/** How long an operator waits for the source's answer. */
const orderTimeoutMs = 5000

interface Order {
  readonly force: boolean
  readonly settle: PromiseWithResolvers<OrderAnswer>
}

interface Waiter {
  readonly settle: PromiseWithResolvers<void>
  /** When the source first answered busy while this one waited. */
  busySince: number | undefined
}

export class SwitchoverAsker {
  readonly #parts: SwitchoverParts
  readonly #waiters = new Set<Waiter>()
  #command: 'operator' | 'resume' | 'reader-only' | undefined
  /** Of the operator's word. */
  #isForced = false
  /** Operators who wait for an answer. */
  readonly #orders = new Set<Order>()
  #running = false
  #unanswered = false
  #why = 'the source is being asked'
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

  /** What guests' writes wait for: a sentence's end. */
  get why(): string {
    return this.#why
  }

  /** A guest's write waits here. Rejects with a GuestError, or when the guest goes. */
  async waitForGuest(signal: AbortSignal): Promise<void> {
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

  /** The operator's word. Resolves when the source has answered it, or not in time: then it is asked on. @throws the signal's reason */
  async order(force: boolean, signal: AbortSignal): Promise<OrderAnswer> {
    const order = { force, settle: Promise.withResolvers<OrderAnswer>() }
    const answered = new AbortController()
    this.#orders.add(order)
    this.#isForced ||= force
    this.command('operator')
    const late = this.#parts.clock.sleep(orderTimeoutMs, AbortSignal.any([signal, answered.signal])).then(
      () => undefined,
      () => signal.throwIfAborted(),
    )
    try {
      return await Promise.race([order.settle.promise, late.then(() => undefined)])
    } finally {
      answered.abort()
      this.#orders.delete(order)
    }
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
    if (this.#parts.signal.aborted) this.#rejectAll(new GuestError('not-served', 'this site is stopping'))
    if (this.#ended || this.#running || this.#parts.signal.aborted) return
    this.#running = true
    this.#ask()
      .catch((error: unknown) =>
        this.#rejectAll(new GuestError('io', `switchover: ${(error as Error).message}`, { cause: error })),
      )
      .finally(() => {
        this.#running = false
        // Somebody may have come while the last answer was dealt with.
        if (this.#isAsked && this.#parts.isWanted()) this.#run()
        else this.#tell([...this.#orders], undefined)
      })
  }

  #ended = false

  get #isAsked(): boolean {
    return this.#waiters.size > 0 || this.#command !== undefined
  }

  async #ask(): Promise<void> {
    const { clock, signal, note } = this.#parts
    let last: string | null = null
    for (let failures = 0, busy = 0; this.#isAsked || this.#unanswered; ) {
      signal.throwIfAborted()
      if (!this.#parts.isWanted()) return
      if (!this.#isAsked) {
        // Whoever asked is gone, and the question was not answered: it may have been granted all the same.
        if (await this.#parts.hasDeparted()) this.#command ??= 'resume'
        else this.#unanswered = false
        continue
      }
      const reason = this.#command ?? 'guest-write'
      const force = reason === 'operator' && this.#isForced
      const orders = reason === 'guest-write' ? [] : [...this.#orders]
      this.#unanswered = true
      const askedMs = clock.now()
      let answer: AcquireAnswer
      try {
        answer = await this.#parts.acquire(reason, force, this.#asking.signal)
        failures = 0
      } catch (error) {
        signal.throwIfAborted()
        if (this.#ended) return
        this.#tell(orders, undefined)
        for (const waiter of this.#waiters) waiter.busySince = undefined // Only a source that answers counts as busy.
        const lost = error instanceof LinkError
        this.#why = lost ? 'the source is out of reach' : `the source could not answer: ${(error as Error).message}`
        note(lost ? `${this.#why}: switchover waits for it` : this.#why)
        await clock.sleep(retryDelayMs(++failures), signal)
        continue
      }
      if (answer.answer === 'granted') {
        // A destination that has left meanwhile takes nothing: its operator said so, and was told what it may strand.
        if (!this.#parts.isWanted()) return
        await this.#granted(answer, askedMs)
        return this.#tell(orders, answer)
      }
      this.#unanswered = false
      if (answer.answer === 'refused') {
        this.#tell(orders, answer)
        return this.#refused(answer.code, answer.message)
      }
      this.#why = `at the source, ${answer.why}`
      if (reason === 'reader-only') {
        if (this.#command === reason) this.#command = undefined // The operator may have spoken meanwhile.
      } else if (answer.isAtWork) {
        // An operator who has waited is told; else it is noted, for nobody waits any more.
        const unforced = [...this.#orders].filter((order) => !order.force)
        if (unforced.length === 0)
          last = `not switched over: ${this.#why}. When the machine is off or has moved, say vmstore migration switchover; with --force that client is cut off`
        this.#tell(unforced, answer)
        if (this.#isForced === force) this.#forget() // A word that came meanwhile is asked for.
        if (!this.#isAsked) break
      } else if (busy > quietTries) note(`switchover waits: ${this.#why}`)
      if (!answer.isAtWork) this.#tell(orders, undefined)
      this.#expire(answer.why)
      await clock.sleep(Math.min(longestBusyPauseMs, firstBusyPauseMs * 2 ** Math.min(busy++, 8)), signal)
    }
    note(last)
  }

  /** The operator's word, or what else was to be asked for, is answered. */
  #forget(): void {
    this.#command = undefined
    this.#isForced = false
  }

  #tell(orders: readonly Order[], answer: OrderAnswer): void {
    for (const order of orders) {
      order.settle.resolve(answer)
      this.#orders.delete(order)
    }
  }

  async #granted(grant: Granted, askedMs: number): Promise<void> {
    await this.#parts.granted(grant, askedMs)
    this.#unanswered = false
    this.#ended = true
    this.#forget()
    this.#parts.note(null)
    for (const waiter of this.#waiters) waiter.settle.resolve()
  }

  async #refused(code: string, message: string): Promise<void> {
    this.#forget()
    await this.#parts.refused(code, message)
    this.#rejectAll(new GuestError('not-served', message))
  }

  /** Gives up on writes that a busy source has kept waiting for too long. */
  #expire(why: string): void {
    const now = this.#parts.clock.now()
    for (const waiter of this.#waiters) {
      waiter.busySince ??= now
      if (now - waiter.busySince < this.#parts.waitMs) continue
      waiter.settle.reject(new GuestError('not-permitted', `not switched over: at the source, ${why}`))
      this.#waiters.delete(waiter)
    }
  }

  #rejectAll(error: Error): void {
    for (const waiter of this.#waiters) waiter.settle.reject(error)
    this.#waiters.clear()
    this.#tell([...this.#orders], undefined)
  }
}
