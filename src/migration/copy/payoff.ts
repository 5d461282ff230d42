// Whether asking for digests of one kind pays: what the questions have cost, against what they have spared. Pure.

/** What is asked on trust before it has to have paid. */
const trustBytes = 64 * 1024
/** Asking goes on while it costs no more than this part of what it spared. */
const leastGain = 4
/** Once it does not pay, one question of so many is asked all the same: another part of the disk may be alike. */
const probeEvery = 32

export class Payoff {
  #cost = 0
  #spared = 0
  #unasked = 0

  /** To be asked once for each question. */
  get pays(): boolean {
    if (this.#cost <= trustBytes + this.#spared / leastGain) return true
    return ++this.#unasked % probeEvery === 0
  }

  asked(bytes: number): void {
    this.#cost += bytes
  }

  spared(bytes: number): void {
    this.#spared += bytes
  }
}
