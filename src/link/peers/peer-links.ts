// The lanes to one peer: when one is missing, which lane a request takes, how many there may be.
// Requests take the newest open lane; duplicates are harmless. A lane that is silent (link/lane/lane.ts) counts as missing while a
// fresh one is dialled, and is closed only when there is another that is not silent: what was under way on it is then asked
// for again. If it is heard of first, nothing has happened. So it is given up for dead no sooner than another stream has
// made its four round trips: however slow a network is, it is no slower for one than the other.

import type { Duplex } from 'node:stream'
import type { Timers } from '../../block/clock.ts'
import type { Log } from '../../transport/index.ts'
import { aborted, LinkError, type PeerHandlers, type Purpose, purposes } from '../channel.ts'
import { Lane } from '../lane/lane.ts'
import { printable } from '../wire/messages.ts'
import { afterDeadline, Dialler } from './dialler.ts'
import { type LinkEvent, type LinkFacts, LinkWatch } from './link-watch.ts'

/** Open lanes of a purpose; over it the oldest idle one is closed. */
export const maximumLanes = 8
/** Streams that the peer dialled and that said no hello yet. */
export const maximumOpening = 24
/** A lane that broke sooner counts as a failed attempt. */
const steadyMs = 2000
export const maximumWaiters = 4096

export interface PeerLinksOptions {
  /** This site's id: between two sites that can both dial, the smaller dials first. */
  readonly ownId: string
  /** A secured stream to the peer, whose key was checked. Rejects with LinkError 'unreachable'. */
  dial(peerId: string, purpose: Purpose, signal: AbortSignal): Promise<Duplex>
  hasAddress(peerId: string): boolean
  readonly handlers: PeerHandlers
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
  /** Open lanes by purpose, the newest last. */
  readonly #lanes: Record<Purpose, Lane[]> = { control: [], demand: [], background: [] }
  readonly #diallers: Record<Purpose, Dialler>
  readonly #opening = new Set<Lane>()
  readonly #waiters = new Set<Waiter>()
  readonly #closing = new AbortController()
  #keepers = 0
  #closed: LinkError | undefined
  #trouble: string | undefined

  constructor(peerId: string, options: PeerLinksOptions, listeners: LinkListeners) {
    const { clock, dateMs } = options
    this.#peerId = peerId
    this.#options = options
    this.#up = listeners.up
    this.#watch = new LinkWatch({ clock, dateMs: () => dateMs(), tell: listeners.event })
    this.#diallers = {
      control: this.#dialler('control'),
      demand: this.#dialler('demand'),
      background: this.#dialler('background'),
    }
  }

  get connected(): boolean {
    return purposes.some((purpose) => this.#lanes[purpose].length > 0)
  }

  get trouble(): string | undefined {
    return this.connected ? undefined : this.#trouble
  }

  get facts(): LinkFacts {
    return this.#watch.facts
  }

  accept(stream: Duplex): void {
    if (this.#closed || this.#opening.size >= maximumOpening) {
      stream.on('error', () => {})
      stream.destroy()
      return
    }
    void this.#open(stream, undefined).catch((error: LinkError) => {
      this.#options.log.warn({ peer: this.#peerId, code: error.code }, `a lane of the peer failed: ${error.message}`)
    })
  }

  /** The newest open lane, rather one that is not silent, or the next one. Rejects only when `signal` aborts or the peer is dropped. */
  lane(purpose: Purpose, signal: AbortSignal): Promise<Lane> {
    if (this.#closed) return Promise.reject(this.#closed)
    if (signal.aborted) return Promise.reject(aborted(signal))
    const lanes = this.#lanes[purpose]
    const open = lanes.findLast((lane) => !lane.isSilent) ?? lanes.at(-1)
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
      this.#diallers[purpose].look()
      this.#diallers[purpose].start()
    })
  }

  async probe(signal: AbortSignal): Promise<void> {
    if (this.#closed) throw this.#closed
    if (this.connected) return
    if (!this.#options.hasAddress(this.#peerId)) {
      throw new LinkError('unreachable', 'the peer has no address here, and is not connected: it has to dial this site')
    }
    const dial = new AbortController()
    using _deadline = afterDeadline(this.#options.clock, dial)
    await this.#dial('control', AbortSignal.any([signal, dial.signal]))
  }

  keep(): Disposable {
    this.#keepers++
    this.#watch.wanted()
    for (const purpose of purposes) this.#startIfNeeded(purpose)
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
    for (const purpose of purposes) for (const lane of [...this.#lanes[purpose]]) lane.close(error)
  }

  #needed(purpose: Purpose): boolean {
    const lanes = this.#lanes[purpose]
    if (this.#closed || lanes.some((lane) => !lane.isSilent)) return false
    return this.#keepers > 0 || this.#awaited(purpose) || lanes.some((lane) => lane.outstanding > 0)
  }

  #awaited(purpose: Purpose): boolean {
    return [...this.#waiters].some((waiter) => waiter.purpose === purpose)
  }

  #startIfNeeded(purpose: Purpose): void {
    if (this.#needed(purpose)) this.#diallers[purpose].start()
  }

  #dialler(purpose: Purpose): Dialler {
    const { ownId, hasAddress, clock, random, log } = this.#options
    return new Dialler({
      clock,
      random,
      closing: this.#closing.signal,
      needed: () => this.#needed(purpose),
      yields: () => ownId > this.#peerId && !this.#awaited(purpose),
      attempt: async (signal) => {
        if (!hasAddress(this.#peerId)) {
          throw new LinkError('unreachable', 'the peer has no address here: it has to dial this site')
        }
        await this.#dial(purpose, signal)
      },
      failed: (error) => log.debug({ peer: this.#peerId, purpose, err: error }, 'the peer could not be dialled'),
    })
  }

  async #dial(purpose: Purpose, signal: AbortSignal): Promise<void> {
    const whole = AbortSignal.any([signal, this.#closing.signal])
    this.#watch.dialling()
    try {
      const stream = await raced(this.#options.dial(this.#peerId, purpose, whole), whole)
      await this.#open(stream, purpose, whole)
      this.#trouble = undefined
    } catch (reason) {
      // A deadline is a LinkError; whoever gives up for another reason does not want to hear of it.
      const error = signal.aborted ? signal.reason : reason
      if (signal.aborted && !(error instanceof LinkError)) throw aborted(signal)
      const { message } = error as Error
      this.#trouble = printable(message)
      if (!this.#closed) this.#watch.dialFailed(this.#trouble)
      if (error instanceof LinkError && error.code !== 'lost') throw error
      throw new LinkError('unreachable', `the peer could not be reached: ${message}`, { cause: error })
    }
  }

  /** `givenUp`: closes the lane unless it is open by then. */
  async #open(stream: Duplex, purpose: Purpose | undefined, givenUp?: AbortSignal): Promise<void> {
    const { handlers, log, clock } = this.#options
    const lane = new Lane(stream, { peerId: this.#peerId, purpose, handlers, log, clock })
    const giveUp = () => lane.close()
    givenUp?.addEventListener('abort', giveUp, { once: true })
    this.#opening.add(lane)
    try {
      if (this.#closed) lane.close(this.#closed)
      else if (givenUp?.aborted) lane.close()
      await lane.opened
    } finally {
      givenUp?.removeEventListener('abort', giveUp)
      this.#opening.delete(lane)
    }
    this.#add(lane)
  }

  #add(lane: Lane): void {
    const { purpose } = lane
    const lanes = this.#lanes[purpose]
    const dialler = this.#diallers[purpose]
    const first = purposes.every((each) => this.#lanes[each].every((other) => other.isSilent))
    lanes.push(lane)
    let steady = false
    const timer = this.#options.clock.after(steadyMs, () => {
      steady = true
      dialler.steady()
    })
    lane.onClosed((error) => {
      timer[Symbol.dispose]()
      const index = lanes.indexOf(lane)
      if (index >= 0) lanes.splice(index, 1)
      this.#trouble = error.message
      this.#options.log.debug({ peer: this.#peerId, purpose, code: error.code }, `a lane closed: ${error.message}`)
      if (this.#closed) return
      this.#lookWhetherHeard(error.message)
      if (!steady && lanes.length === 0) dialler.unsteady()
      this.#startIfNeeded(purpose)
    })
    if (lanes.length > maximumLanes) (lanes.find((each) => each.outstanding === 0) ?? lanes[0])?.close()
    if (!lane.isOpen) return
    lane.onSilence(() => this.#silenceChanged(purpose))
    this.#silenceChanged(purpose)
    for (const waiter of [...this.#waiters]) if (waiter.purpose === purpose) waiter.resolve(lane)
    if (first) this.#up()
  }

  /** For who tells people. `why`: what to say if nothing is heard any more. */
  #lookWhetherHeard(why: string): void {
    const isHeard = purposes.some((purpose) => this.#lanes[purpose].some((lane) => !lane.isSilent))
    if (isHeard) this.#watch.heard()
    else this.#watch.lost(printable(why))
  }

  /** Or a lane is new. */
  #silenceChanged(purpose: Purpose): void {
    this.#lookWhetherHeard('nothing is heard of it any more')
    const lanes = this.#lanes[purpose]
    if (lanes.some((lane) => !lane.isSilent)) {
      for (const lane of lanes.filter(({ isSilent }) => isSilent)) {
        lane.close(new LinkError('lost', 'the connection is silent, and another one is not'))
      }
    }
    this.#diallers[purpose].look()
    this.#startIfNeeded(purpose)
  }
}

/** Settles when `signal` aborts, though `promise` may not; a stream that comes too late is closed. */
function raced<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      reject(signal.reason)
      promise.then(
        (late) => (late as Duplex | undefined)?.destroy(),
        () => {},
      )
    }
    if (signal.aborted) {
      onAbort()
      return
    }
    signal.addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
