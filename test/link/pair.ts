// Two ends of a stream in memory, lanes over them, and a clock moved by hand: what the tests of links share.

import { type Duplex, duplexPair } from 'node:stream'
import type { Timers } from '../../src/block/clock.ts'
import type { Piece } from '../../src/block/units.ts'
import { type FetchRequest, LinkError, type PeerHandlers, type Purpose } from '../../src/link/channel.ts'
import type { Lane } from '../../src/link/lane/lane.ts'
import { StreamLane, type StreamLaneOptions } from '../../src/link/lane/stream-lane.ts'
import { StreamLanes } from '../../src/link/lane/stream-lanes.ts'
import { LinkHub, type LinkHubOptions } from '../../src/link/peers/hub.ts'
import type { Log } from '../../src/transport/index.ts'

export const quiet: Log = { debug() {}, info() {}, warn() {}, error() {} }

export class ManualClock implements Timers {
  nowMs = 0
  #timers: { at: number; run: () => void }[] = []

  after(delayMs: number, run: () => void): Disposable {
    const timer = { at: this.nowMs + delayMs, run }
    this.#timers.push(timer)
    return {
      [Symbol.dispose]: () => {
        this.#timers = this.#timers.filter((each) => each !== timer)
      },
    }
  }

  get pending(): number {
    return this.#timers.length
  }

  /** Runs what is due, in order, and lets streams and promises settle after each. */
  async advance(ms: number): Promise<void> {
    const end = this.nowMs + ms
    for (;;) {
      const next = this.#timers.filter((each) => each.at <= end).sort((a, b) => a.at - b.at)[0]
      if (!next) break
      this.nowMs = next.at
      this.#timers = this.#timers.filter((each) => each !== next)
      next.run()
      await settle()
    }
    this.nowMs = end
    await settle()
  }
}

/** Lets everything run that needs no time: pieces are taken in, and hashed, in short turns. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 1500; turn++) await new Promise((resolve) => setImmediate(resolve))
}

export const noHandlers: PeerHandlers = {
  async call() {
    throw new Error('no calls are expected here')
  },
  // biome-ignore lint/correctness/useYield: it only throws
  async *fetch(): AsyncGenerator<Piece> {
    throw new Error('no fetches are expected here')
  },
}

export interface LanePairOptions {
  readonly handlers?: Partial<PeerHandlers>
  readonly dialledHandlers?: Partial<PeerHandlers>
  readonly purpose?: Purpose
  readonly clock?: Timers
  readonly log?: Log
}

/** `near` dialled, `far` accepted and answers with `handlers`. */
export async function lanePair(options: LanePairOptions = {}) {
  const [nearStream, farStream] = duplexPair() as [Duplex, Duplex]
  const clock = options.clock ?? new ManualClock()
  const near = lane(nearStream, {
    use: { purpose: options.purpose ?? 'control', stripe: 0 },
    clock,
    peerId: 'far',
    handlers: { ...noHandlers, ...options.dialledHandlers },
  })
  const far = lane(farStream, {
    use: undefined,
    clock,
    peerId: 'near',
    handlers: { ...noHandlers, ...options.handlers },
    log: options.log ?? quiet,
  })
  await Promise.all([near.opened, far.opened])
  return { near, far, nearStream, farStream, clock }
}

export function lane(stream: Duplex, options: Partial<StreamLaneOptions>): Lane {
  return new StreamLane(stream, {
    peerId: 'peer',
    use: { purpose: 'control', stripe: 0 },
    handlers: noHandlers,
    log: quiet,
    clock: new ManualClock(),
    ...options,
  })
}

export interface StreamHubOptions extends Omit<LinkHubOptions, 'lanes' | 'address' | 'clock'> {
  readonly clock: Timers
  readonly handlers: PeerHandlers
  dial(peerId: string, purpose: Purpose, signal: AbortSignal, stripe: number): Promise<Duplex>
  hasAddress(peerId: string): boolean
}

/** A hub whose lanes run over streams of the test's choosing. */
export class StreamHub extends LinkHub {
  readonly #lanes: StreamLanes

  constructor(options: StreamHubOptions) {
    const { dial, hasAddress } = options
    const lanes = new StreamLanes({
      ...options,
      connect: ({ peerId, purpose, stripe }, signal) => dial(peerId, purpose, signal, stripe),
    })
    super({ ...options, lanes, address: (peerId) => (hasAddress(peerId) ? `test://${peerId}` : undefined) })
    this.#lanes = lanes
  }

  /** A stream that the peer dialled. */
  take(peerId: string, stream: Duplex): void {
    this.accept(peerId, this.#lanes.accept(peerId, stream))
  }
}

export const never = new AbortController().signal

export function fetchOf(...runs: [number, number][]): FetchRequest {
  return { migration: 'm1', disk: 'd1', generation: 1, runs: runs.map(([offset, length]) => ({ offset, length })) }
}

export async function collect(pieces: AsyncIterable<Piece>): Promise<Piece[]> {
  const all: Piece[] = []
  for await (const piece of pieces) all.push(piece)
  return all
}

export const isLinkError = (code: string) => (error: unknown) => error instanceof LinkError && error.code === code

/** The same numbers for the same seed (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
