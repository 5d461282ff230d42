// A narrow line in memory: streams that share its bandwidth, its delay and its queue, with time moved by hand. What a stream
// has written waits until the queue has room, as in a socket's buffer; streams take turns at the queue.

import { Duplex } from 'node:stream'
import type { ManualClock } from './pair.ts'

/** What TLS puts into one record, and TCP so hands over at once. */
const recordBytes = 16 * 1024

export interface LineOptions {
  readonly clock: ManualClock
  readonly bytesPerSecond: number
  /** One way. */
  readonly delayMs: number
  /** What may stand before the line, in time that it needs. */
  readonly queueMs: number
}

/** One direction. */
export class Line {
  readonly #options: LineOptions
  readonly #waiting: { readonly bytes: number; readonly enter: () => void; readonly arrive: () => void }[] = []
  #freeAtMs = 0
  #isPassing = false

  constructor(options: LineOptions) {
    this.#options = options
  }

  /** `enter`: it has left the socket's buffer. */
  carry(bytes: number, enter: () => void, arrive: () => void): void {
    this.#waiting.push({ bytes, enter, arrive })
    if (!this.#isPassing) this.#pass()
  }

  #pass(): void {
    const { clock, bytesPerSecond, delayMs, queueMs } = this.#options
    this.#isPassing = true
    for (let first = this.#waiting[0]; first; first = this.#waiting[0]) {
      const backlogMs = this.#freeAtMs - clock.nowMs
      if (backlogMs > queueMs) {
        clock.after(Math.ceil(backlogMs - queueMs), () => this.#pass()) // Whole, so that rounding does not repeat it.
        return
      }
      this.#waiting.shift()
      this.#freeAtMs = Math.max(clock.nowMs, this.#freeAtMs) + (first.bytes * 1000) / bytesPerSecond
      clock.after(this.#freeAtMs - clock.nowMs + delayMs, first.arrive)
      first.enter()
    }
    this.#isPassing = false
  }
}

/** Two ends of a stream over two lines. */
export function overLines(there: Line, back: Line): [Duplex, Duplex] {
  const near: Duplex = end(there, () => far)
  const far: Duplex = end(back, () => near)
  return [near, far]
}

function end(line: Line, other: () => Duplex): Duplex {
  return new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      const send = (from: number): void => {
        const part = chunk.subarray(from, from + recordBytes)
        const to = from + part.length
        const enter = () => (to === chunk.length ? done() : send(to))
        line.carry(part.length, enter, () => {
          if (!other().destroyed) other().push(Buffer.from(part))
        })
      }
      send(0)
    },
  })
}
