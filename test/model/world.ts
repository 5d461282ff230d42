// The world of the crash model: time, two machines with files that lose what was not synced, and a link that loses, delays
// and repeats. Everything that may happen next is an event in one list; a seed chooses which one does. Code under test runs
// only in between, as microtasks, so that a seed gives the same run every time.

import type { Clock } from '../../src/block/clock.ts'
import { type Random, seededRandom } from '../random.ts'

/** Lines that a failure shows. */
export const traceLines = Number(process.env['TRACE'] ?? 60)

interface PendingEvent {
  readonly label: string
  /** The process that waits; its death drops the event. undefined: the world's own. */
  readonly process: SimProcess | undefined
  /** Not before this time. */
  readonly atMs: number
  /** Whether it may happen now. */
  readonly ready: () => boolean
  readonly happen: () => void
  /** The process died while this was under way: part of it may have happened all the same. */
  readonly abandon: (() => void) | undefined
}

/** One run of a daemon. When it dies, nothing of it happens any more. */
export class SimProcess {
  readonly name: string
  alive = true

  constructor(name: string) {
    this.name = name
  }
}

export class World {
  readonly random: Random
  readonly seed: number
  nowMs = 0
  /** How often time passes though something could happen now. */
  haste = 0.1
  /** The last events, for the report of a failure. */
  readonly trace: string[] = []
  #events: PendingEvent[] = []

  constructor(seed: number) {
    this.seed = seed
    this.random = seededRandom(seed)
  }

  log(line: string): void {
    this.trace.push(`${Math.round(this.nowMs)} ${line}`)
    if (this.trace.length > traceLines) this.trace.shift()
  }

  /** Resolves when the seed says so, if `process` lives then. */
  event(
    process: SimProcess | undefined,
    label: string,
    options: { atMs?: number; ready?: () => boolean; abandon?: () => void } = {},
  ): Promise<void> {
    return new Promise((resolve) => {
      if (process && !process.alive) return // Nothing happens to the dead.
      this.#events.push({
        label,
        process,
        atMs: options.atMs ?? 0,
        ready: options.ready ?? (() => true),
        happen: resolve,
        abandon: options.abandon,
      })
    })
  }

  clock(process: SimProcess): Clock {
    return {
      now: () => this.nowMs,
      date: () => new Date(1_700_000_000_000 + this.nowMs),
      sleep: (durationMs, signal) => {
        if (signal?.aborted) return Promise.reject(signal.reason)
        const atMs = this.nowMs + Math.max(durationMs, 1)
        if (!signal) return this.event(process, 'timer', { atMs })
        return new Promise((resolve, reject) => {
          const stop = () => reject(signal.reason)
          // Also at its death: signals with listeners live for ever, and the whole world with them.
          const unheard = () => signal.removeEventListener('abort', stop)
          signal.addEventListener('abort', stop, { once: true })
          this.event(process, 'timer', { atMs, abandon: unheard }).then(() => {
            unheard()
            resolve()
          })
        })
      },
      // A step of the world is as short as any.
      turn: async () => {},
    }
  }

  /** What could still happen, for the report of a failure. */
  get pending(): string {
    return this.#events
      .map((event) => `${event.process?.name ?? 'world'}: ${event.label}${event.ready() ? '' : ' (not ready)'}`)
      .join('; ')
  }

  kill(process: SimProcess): void {
    process.alive = false
    const mine = this.#events.filter((event) => event.process === process)
    this.#events = this.#events.filter((event) => event.process !== process)
    for (const event of mine) event.abandon?.()
  }

  /** Nothing happens any more. */
  end(): void {
    for (const event of this.#events) event.abandon?.()
    this.#events = []
  }

  /** Lets one thing happen. False: nothing can. */
  async step(): Promise<boolean> {
    await drained()
    const ready = this.#events.filter((event) => event.ready())
    const now = ready.filter((event) => event.atMs <= this.nowMs)
    const later = ready.filter((event) => event.atMs > this.nowMs)
    const earliest = later.reduce<PendingEvent | undefined>(
      (best, event) => (best && best.atMs <= event.atMs ? best : event),
      undefined,
    )
    const choices = earliest && (now.length === 0 || this.random.chance(this.haste)) ? [earliest] : now
    if (choices.length === 0) return false
    const chosen = this.random.pick(choices)
    this.#events.splice(this.#events.indexOf(chosen), 1)
    this.nowMs = Math.max(this.nowMs, chosen.atMs)
    if (chosen.label !== 'timer') this.log(`${chosen.process?.name ?? 'world'}: ${chosen.label}`)
    chosen.happen()
    await drained()
    return true
  }
}

/** Every microtask runs before anything else happens. */
export function drained(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
