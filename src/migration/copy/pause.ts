// `migration pause`: holds the background copy and the comparison with the source until `migration resume`. Demand
// fetches, guest writes and switchover never ask here: a pause makes no guest wait.

import { unlessAborted } from '../unless-aborted.ts'

export class Pause {
  #resumed: PromiseWithResolvers<void> | undefined

  constructor(isOn: boolean) {
    this.set(isOn)
  }

  get isOn(): boolean {
    return this.#resumed !== undefined
  }

  set(isOn: boolean): void {
    if (isOn) this.#resumed ??= Promise.withResolvers()
    else {
      this.#resumed?.resolve()
      this.#resumed = undefined
    }
  }

  /** Resolves when there is no pause; at once, without waiting for a turn, when there is none now. */
  passed(signal: AbortSignal): Promise<void> | undefined {
    const resumed = this.#resumed
    if (!resumed) return undefined
    return this.#wait(resumed.promise, signal)
  }

  async #wait(resumed: Promise<void>, signal: AbortSignal): Promise<void> {
    await unlessAborted(resumed, signal)
    if (this.#resumed) await this.#wait(this.#resumed.promise, signal) // It was paused again in the same moment.
  }
}
