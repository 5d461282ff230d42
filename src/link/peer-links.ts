// The lanes to one peer: who dials when, which lane a request takes, how many there may be.
// There is at most one dial under way a purpose. Requests take the newest open lane; duplicates are harmless.

import type { Duplex } from 'node:stream'
import type { Log } from '../transport/index.ts'
import { aborted, LinkError, type PeerHandlers, type Purpose, purposes } from './channel.ts'
import type { Clock } from './clock.ts'
import { Lane } from './lane.ts'
import { printable } from './messages.ts'

export const firstBackoffMs = 250
export const maximumBackoffMs = 2000
/** Between two sites that can both dial, the one with the greater id lets the other go first. */
export const yieldMs = 1000
export const dialDeadlineMs = 15_000
/** Open lanes of a purpose; over it the oldest idle one is closed. */
export const maximumLanes = 8
/** Streams that the peer dialled and that said no hello yet. */
export const maximumOpening = 24
/** A lane that broke sooner counts as a failed attempt, so that a peer that accepts and closes is not dialled in a loop. */
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
  readonly clock: Clock
  /** 0 ≤ x < 1, for the jitter of delays. */
  random(): number
}

interface Dialling {
  running: boolean
  failures: number
  /** Ends a delay early. */
  wake: () => void
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
  /** Open lanes by purpose, the newest last. */
  readonly #lanes: Record<Purpose, Lane[]> = { control: [], demand: [], background: [] }
  readonly #dialling: Record<Purpose, Dialling> = { control: idle(), demand: idle(), background: idle() }
  readonly #opening = new Set<Lane>()
  readonly #waiters = new Set<Waiter>()
  readonly #closing = new AbortController()
  #keepers = 0
  #closed: LinkError | undefined
  #trouble: string | undefined

  constructor(peerId: string, options: PeerLinksOptions, up: () => void) {
    this.#peerId = peerId
    this.#options = options
    this.#up = up
  }

  get connected(): boolean {
    return purposes.some((purpose) => this.#lanes[purpose].length > 0)
  }

  get trouble(): string | undefined {
    return this.connected ? undefined : this.#trouble
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

  /** The newest open lane, or the next one. Rejects only when `signal` aborts or the peer is dropped. */
  lane(purpose: Purpose, signal: AbortSignal): Promise<Lane> {
    if (this.#closed) return Promise.reject(this.#closed)
    if (signal.aborted) return Promise.reject(aborted(signal))
    const open = this.#lanes[purpose].at(-1)
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
      this.#start(purpose)
    })
  }

  async probe(signal: AbortSignal): Promise<void> {
    if (this.#closed) throw this.#closed
    if (this.connected) return
    if (!this.#options.hasAddress(this.#peerId)) {
      throw new LinkError('unreachable', 'the peer has no address here, and is not connected: it has to dial this site')
    }
    await this.#dial('control', signal)
  }

  keep(): Disposable {
    this.#keepers++
    for (const purpose of purposes) this.#start(purpose)
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
    this.#closing.abort(error)
    for (const waiter of [...this.#waiters]) waiter.reject(error)
    for (const lane of this.#opening) lane.close(error)
    for (const purpose of purposes) for (const lane of [...this.#lanes[purpose]]) lane.close(error)
  }

  #needed(purpose: Purpose): boolean {
    if (this.#closed || this.#lanes[purpose].length > 0) return false
    return this.#keepers > 0 || this.#awaited(purpose)
  }

  #awaited(purpose: Purpose): boolean {
    return [...this.#waiters].some((waiter) => waiter.purpose === purpose)
  }

  #start(purpose: Purpose): void {
    const dialling = this.#dialling[purpose]
    if (dialling.running) {
      // Courtesy ends when somebody waits; a back-off does not.
      if (dialling.failures === 0 && this.#awaited(purpose)) dialling.wake()
      return
    }
    dialling.running = true
    void this.#dialUntilOpen(purpose, dialling).finally(() => {
      dialling.running = false
      if (this.#needed(purpose)) this.#start(purpose)
    })
  }

  async #dialUntilOpen(purpose: Purpose, dialling: Dialling): Promise<void> {
    const { ownId, hasAddress } = this.#options
    if (dialling.failures === 0 && ownId > this.#peerId && !this.#awaited(purpose)) await this.#delay(yieldMs, dialling)
    while (this.#needed(purpose)) {
      if (dialling.failures > 0) await this.#delay(this.#backoffMs(dialling.failures), dialling)
      if (!this.#needed(purpose)) return
      try {
        if (!hasAddress(this.#peerId))
          throw new LinkError('unreachable', 'the peer has no address here: it has to dial this site')
        await this.#dial(purpose, this.#closing.signal)
      } catch (error) {
        dialling.failures++
        this.#options.log.debug({ peer: this.#peerId, purpose, err: error }, 'the peer could not be dialled')
      }
    }
  }

  /** Half of it fixed, half by chance: two sites that lost each other do not dial in step. */
  #backoffMs(failures: number): number {
    const ceilingMs = Math.min(maximumBackoffMs, firstBackoffMs * 2 ** Math.min(failures - 1, 10))
    return ceilingMs / 2 + (ceilingMs / 2) * this.#options.random()
  }

  #delay(delayMs: number, dialling: Dialling): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        timer[Symbol.dispose]()
        this.#closing.signal.removeEventListener('abort', end)
        dialling.wake = () => {}
        resolve()
      }
      const timer = this.#options.clock.after(delayMs, end)
      this.#closing.signal.addEventListener('abort', end, { once: true })
      dialling.wake = end
    })
  }

  async #dial(purpose: Purpose, signal: AbortSignal): Promise<void> {
    const deadline = new AbortController()
    const timer = this.#options.clock.after(dialDeadlineMs, () =>
      deadline.abort(new LinkError('unreachable', `the peer did not answer within ${dialDeadlineMs / 1000} s`)),
    )
    const whole = AbortSignal.any([signal, this.#closing.signal, deadline.signal])
    try {
      const stream = await raced(this.#options.dial(this.#peerId, purpose, whole), whole)
      await raced(this.#open(stream, purpose), whole)
      this.#trouble = undefined
    } catch (error) {
      if (signal.aborted && !this.#closed) throw aborted(signal)
      const { message } = error as Error
      this.#trouble = printable(message)
      if (error instanceof LinkError && error.code !== 'lost') throw error
      throw new LinkError('unreachable', `the peer could not be reached: ${message}`, { cause: error })
    } finally {
      timer[Symbol.dispose]()
    }
  }

  async #open(stream: Duplex, purpose: Purpose | undefined): Promise<void> {
    const { handlers, log, clock } = this.#options
    const lane = new Lane(stream, { peerId: this.#peerId, purpose, handlers, log, clock })
    this.#opening.add(lane)
    try {
      if (this.#closed) lane.close(this.#closed)
      await lane.opened
    } finally {
      this.#opening.delete(lane)
    }
    this.#add(lane)
  }

  #add(lane: Lane): void {
    const { purpose } = lane
    const lanes = this.#lanes[purpose]
    const dialling = this.#dialling[purpose]
    const first = !this.connected
    lanes.push(lane)
    let steady = false
    const timer = this.#options.clock.after(steadyMs, () => {
      steady = true
      dialling.failures = 0
    })
    lane.onClosed((error) => {
      timer[Symbol.dispose]()
      const index = lanes.indexOf(lane)
      if (index >= 0) lanes.splice(index, 1)
      this.#trouble = error.message
      this.#options.log.debug({ peer: this.#peerId, purpose, code: error.code }, `a lane closed: ${error.message}`)
      if (lanes.length > 0 || this.#closed) return
      if (!steady) dialling.failures++
      if (this.#needed(purpose)) this.#start(purpose)
    })
    if (lanes.length > maximumLanes) (lanes.find((each) => each.outstanding === 0) ?? lanes[0])?.close()
    if (!lane.isOpen) return
    if (dialling.failures === 0) dialling.wake()
    for (const waiter of [...this.#waiters]) if (waiter.purpose === purpose) waiter.resolve(lane)
    if (first) this.#up()
  }
}

function idle(): Dialling {
  return { running: false, failures: 0, wake: () => {} }
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
