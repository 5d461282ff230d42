// Whether the other side of a lane is heard of. Silence is counted in ticks and not by a clock, so that neither a busy loop nor
// a suspended host breaks a lane.
//
// Both sides ping once a second, whatever else they do, so each hears of the other every second, or bytes all the time.
// When nothing was heard for 2 to 3 s the lane is silent, which harms nothing (link/peers/slot.ts); after 10 s it is dead.
// It does not matter whether an answer is due: what the other side waits for may be stuck here, in the kernel.
// Not taken for silent: any round trip and any bandwidth, if the way gets no longer by more than a second at once, as when a
// queue fills; a slow line that is full of pieces, whose parts are heard as they come (16 KiB: 0.13 s at 1 Mbit/s).
// Not used: TCP_USER_TIMEOUT, which also cuts a connection to a peer that lives but has its hands full and does not read.

import { encodeEmpty } from '../wire/frames.ts'
import type { Sender } from './sender.ts'

export const tickMs = 1000
/** Ticks, the first of which is a part of one, in which nothing was heard by a side that was reading. */
export const silenceTicks = 3
/** A side that heard nothing for this long, while it was reading, gives the lane up. */
export const deadTicks = 10

export class Pulse {
  readonly #sender: Sender
  #ticksHeardNothing = 0
  #pingUnsent = false
  #pongUnsent = false
  #silenceChanged: () => void = () => {}

  constructor(sender: Sender) {
    this.#sender = sender
  }

  get isSilent(): boolean {
    return this.#ticksHeardNothing >= silenceTicks
  }

  get isDead(): boolean {
    return this.#ticksHeardNothing >= deadTicks
  }

  onSilence(listener: () => void): void {
    this.#silenceChanged = listener
  }

  heard(): void {
    const wasSilent = this.isSilent
    this.#ticksHeardNothing = 0
    if (wasSilent) this.#silenceChanged()
  }

  /** A second has passed; `isReading`: in which something could be heard. */
  count(isReading: boolean): void {
    this.#ticksHeardNothing = isReading ? this.#ticksHeardNothing + 1 : 0
  }

  /** A side that does not read pings too: its peer hears that it lives, though nothing of the peer is read here. */
  beat(): void {
    if (!this.#pingUnsent) {
      this.#pingUnsent = true
      this.#sender.push(encodeEmpty('ping', 0), () => {
        this.#pingUnsent = false
      })
    }
    if (this.isSilent) this.#silenceChanged() // Each second: who asks on a silent lane is not left to its end.
  }

  /** A peer that pings and does not read gets one answer. */
  answer(): void {
    if (this.#pongUnsent) return
    this.#pongUnsent = true
    this.#sender.push(encodeEmpty('pong', 0), () => {
      this.#pongUnsent = false
    })
  }
}
