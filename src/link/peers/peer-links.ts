// The lanes to one peer, in slots: one for each stripe of a purpose. Which slot a request takes, how many lanes there may be,
// and what people are told.
//
// What always holds: no slot knows of another, so that a stripe that breaks takes nothing with it but what was under way on
// it. A request takes an open lane of its purpose, of whichever stripe has least to do.

import type { Timers } from '../../block/clock.ts'
import type { Log } from '../../transport/index.ts'
import { aborted, LinkError, type Purpose, purposes } from '../channel.ts'
import type { Lane, LaneMaker } from '../lane/lane.ts'
import { maximumStripes, printable } from '../wire/messages.ts'
import { afterDeadline } from './dialler.ts'
import { type LinkEvent, type LinkFacts, LinkWatch } from './link-watch.ts'
import { Slot } from './slot.ts'

/** Open lanes of a purpose: two a stripe. Over it the oldest idle one is closed, of the stripe that has most. */
export const maximumLanes = 2 * maximumStripes
/** Streams that the peer dialled and that said no hello yet. */
export const maximumOpening = 24
export const maximumWaiters = 4096

/** Of each purpose how many stripes this site dials. What the peer dials is taken beside. */
export type Stripes = Readonly<Record<Purpose, number>>

export interface PeerLinksOptions {
  /** This site's id: between two sites that can both dial, the smaller dials first. */
  readonly ownId: string
  readonly lanes: LaneMaker
  /** Where a peer can be dialled, if that is known. */
  address(peerId: string): string | undefined
  readonly stripes: Stripes
  readonly log: Log
  readonly clock: Timers
  /** 0 ≤ x < 1, for the jitter of delays. */
  random(): number
  /** The time of day in milliseconds, for people. */
  dateMs(): number
}

/** What others hear of a peer's links. */
export interface LinkListeners {
  /** A peer that had no lane that is heard of has one. */
  readonly up: () => void
  readonly event: (event: LinkEvent) => void
}

interface Waiter {
  readonly purpose: Purpose
  readonly resolve: (lane: Lane) => void
  readonly reject: (error: LinkError) => void
}

export class PeerLinks {
  readonly #peerId: string
  readonly #options: PeerLinksOptions
  readonly #up: () => void
  readonly #watch: LinkWatch
  /** By purpose and stripe; this site's own from the beginning, others when the peer dials them. */
  readonly #slots: Record<Purpose, Slot[]>
  readonly #opening = new Set<Lane>()
  readonly #waiters = new Set<Waiter>()
  readonly #closing = new AbortController()
  #keepers = 0
  /** How often a request has taken a lane. */
  #takes = 0
  #closed: LinkError | undefined
  #trouble: string | undefined
  /** The peer speaks another version: kept until a lane to it is open. */
  #incompatible: LinkError | undefined

  constructor(peerId: string, options: PeerLinksOptions, listeners: LinkListeners) {
    const { clock, dateMs } = options
    this.#peerId = peerId
    this.#options = options
    this.#up = listeners.up
    this.#watch = new LinkWatch({ clock, dateMs: () => dateMs(), tell: listeners.event })
    this.#slots = {
      control: this.#ownSlots('control'),
      demand: this.#ownSlots('demand'),
      background: this.#ownSlots('background'),
    }
  }

  get connected(): boolean {
    return this.#all.some((slot) => slot.laneCount > 0)
  }

  get trouble(): string | undefined {
    return this.connected ? undefined : this.#trouble
  }

  get facts(): LinkFacts {
    return this.#watch.facts
  }

  /** A lane over a stream that the peer dialled. */
  accept(lane: Lane): void {
    if (this.#closed || this.#opening.size >= maximumOpening) {
      lane.close(this.#closed)
      return
    }
    this.#opening.add(lane)
    lane.opened
      .finally(() => this.#opening.delete(lane))
      .then(
        () => this.#add(lane),
        (error: LinkError) => this.#notOpened(error),
      )
  }

  /** An open lane, rather one that is not silent, or the next one. Rejects only when `signal` aborts or the peer is dropped. */
  lane(purpose: Purpose, signal: AbortSignal): Promise<Lane> {
    if (this.#closed) return Promise.reject(this.#closed)
    if (signal.aborted) return Promise.reject(aborted(signal))
    const open = this.#leastBusy(this.#slots[purpose])
    if (open) return Promise.resolve(open)
    if (this.#waiters.size >= maximumWaiters) {
      return Promise.reject(new LinkError('overloaded', `over ${maximumWaiters} requests wait for this peer`))
    }
    return new Promise((resolve, reject) => {
      const leave = () => {
        signal.removeEventListener('abort', onAbort)
        this.#waiters.delete(waiter)
      }
      const waiter: Waiter = {
        purpose,
        resolve: (lane) => {
          leave()
          resolve(lane)
        },
        reject: (error) => {
          leave()
          reject(error)
        },
      }
      const onAbort = () => waiter.reject(aborted(signal))
      signal.addEventListener('abort', onAbort, { once: true })
      this.#waiters.add(waiter)
      this.#slots[purpose][0]?.awaited()
    })
  }

  async probe(signal: AbortSignal): Promise<void> {
    if (this.#closed) throw this.#closed
    if (this.connected) return
    if (this.#options.address(this.#peerId) === undefined) {
      if (this.#incompatible) throw this.#incompatible
      throw new LinkError('unreachable', 'the peer has no address here, and is not connected: it has to dial this site')
    }
    const dial = new AbortController()
    using _deadline = afterDeadline(this.#options.clock, dial)
    await this.#dial('control', 0, AbortSignal.any([signal, dial.signal]))
  }

  keep(): Disposable {
    this.#keepers++
    this.#watch.wanted()
    for (const slot of this.#all) slot.start()
    let held = true
    return {
      [Symbol.dispose]: () => {
        if (held) this.#keepers--
        held = false
      },
    }
  }

  close(error: LinkError): void {
    if (this.#closed) return
    this.#closed = error
    this.#watch.close()
    this.#closing.abort(error)
    for (const waiter of [...this.#waiters]) waiter.reject(error)
    for (const lane of this.#opening) lane.close(error)
    for (const slot of this.#all) slot.close(error)
  }

  get #all(): Slot[] {
    return purposes.flatMap((purpose) => this.#slots[purpose])
  }

  get #isHeard(): boolean {
    return this.#all.some((slot) => slot.isHeard)
  }

  #ownSlots(purpose: Purpose): Slot[] {
    return Array.from({ length: this.#options.stripes[purpose] }, (_, stripe) => this.#slot(purpose, stripe))
  }

  #slot(purpose: Purpose, stripe: number): Slot {
    const { ownId, clock, random, log, stripes } = this.#options
    const isOwn = stripe < stripes[purpose]
    const isAwaited = () => stripe === 0 && [...this.#waiters].some((waiter) => waiter.purpose === purpose)
    return new Slot({
      purpose,
      stripe,
      clock,
      random,
      closing: this.#closing.signal,
      wanted: () => isOwn && (this.#keepers > 0 || isAwaited()),
      yields: () => ownId > this.#peerId && !isAwaited(),
      dial: (signal) => this.#dial(purpose, stripe, signal),
      dialFailed: (error) =>
        log.debug({ peer: this.#peerId, purpose, stripe, err: error }, 'the peer could not be dialled'),
      changed: (why) => this.#lookWhetherHeard(why),
      closed: (error) => {
        this.#trouble = error.message
        log.debug({ peer: this.#peerId, purpose, stripe, code: error.code }, `a lane closed: ${error.message}`)
      },
    })
  }

  async #dial(purpose: Purpose, stripe: number, signal: AbortSignal): Promise<void> {
    const { address, lanes } = this.#options
    const whole = AbortSignal.any([signal, this.#closing.signal])
    const at = address(this.#peerId)
    if (at === undefined) throw new LinkError('unreachable', 'the peer has no address here: it has to dial this site')
    this.#watch.dialling()
    try {
      this.#add(await lanes.dial({ peerId: this.#peerId, address: at, purpose, stripe }, whole))
      this.#trouble = undefined
    } catch (reason) {
      // A deadline is a LinkError; whoever gives up for another reason does not want to hear of it.
      const error = signal.aborted ? signal.reason : reason
      if (signal.aborted && !(error instanceof LinkError)) throw aborted(signal)
      this.#dialFailed(error)
      if (error instanceof LinkError && error.code !== 'lost') throw error
      throw new LinkError('unreachable', `the peer could not be reached: ${(error as Error).message}`, { cause: error })
    }
  }

  #dialFailed(error: unknown): void {
    this.#trouble = printable((error as Error).message)
    if (this.#closed) return
    if (error instanceof LinkError && error.code === 'incompatible') this.#refuse(error)
    else this.#watch.dialFailed(this.#trouble)
  }

  /** Of a stream that the peer dialled. */
  #notOpened(error: LinkError): void {
    if (this.#closed) return
    if (error.code === 'incompatible') this.#refuse(error)
    else this.#options.log.warn({ peer: this.#peerId, code: error.code }, `a lane of the peer failed: ${error.message}`)
  }

  /** Whoever dialled: the operator hears of it once an outage, and whoever wants to speak with the peer each time. */
  #refuse(error: LinkError): void {
    this.#incompatible = error
    this.#trouble = error.message
    this.#watch.refused(error.message)
  }

  #add(lane: Lane): void {
    if (this.#closed) {
      lane.close(this.#closed) // It has opened in the moment in which everything else was closed.
      return
    }
    const slots = this.#slots[lane.purpose]
    const wasHeard = this.#isHeard
    const known = slots.find(({ stripe }) => stripe === lane.stripe)
    const slot = known ?? this.#slot(lane.purpose, lane.stripe)
    if (!known) slots.push(slot)
    this.#incompatible = undefined
    slot.add(lane)
    if (slots.reduce((count, each) => count + each.laneCount, 0) > maximumLanes) {
      slots.reduce((most, each) => (each.laneCount > most.laneCount ? each : most)).closeOne()
    }
    if (!lane.isOpen) return
    for (const waiter of [...this.#waiters]) if (waiter.purpose === lane.purpose) waiter.resolve(lane)
    if (!wasHeard) this.#up()
  }

  /** For link-watch.ts, which tells people. `why`: what to say if nothing is heard any more. */
  #lookWhetherHeard(why: string): void {
    if (this.#isHeard) this.#watch.heard()
    else this.#watch.lost(printable(why))
  }
  /** Rather one that is heard of, then one with least under way; of several, each in its turn. */
  #leastBusy(slots: readonly Slot[]): Lane | undefined {
    this.#takes++
    let best: Lane | undefined
    for (let index = 0; index < slots.length; index++) {
      const lane = slots[(index + this.#takes) % slots.length]?.lane
      if (!lane) continue
      const isHeard = best?.isSilent && !lane.isSilent
      if (!best || isHeard || (best.isSilent === lane.isSilent && lane.outstanding < best.outstanding)) best = lane
    }
    return best
  }
}
