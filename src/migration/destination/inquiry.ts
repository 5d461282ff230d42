// How the migration stands at the source, as the destination finds it out: asked until it is answered, one question at a
// time for all who want to know.

import type { Clock } from '../../block/clock.ts'
import { LinkError, PeerRefusal } from '../../link/channel.ts'
import type { SourceStanding } from '../counterpart.ts'
import { retryDelayMs } from '../retries.ts'

export interface InquiryParts {
  readonly clock: Clock
  /** Ends when this site stops. */
  readonly signal: AbortSignal
  ask(signal: AbortSignal): Promise<SourceStanding>
  note(sentence: string): void
}

export class Inquiry {
  readonly #parts: InquiryParts
  #underWay: Promise<SourceStanding> | undefined

  constructor(parts: InquiryParts) {
    this.#parts = parts
  }

  answer(): Promise<SourceStanding> {
    this.#underWay ??= this.#untilAnswered().finally(() => {
      this.#underWay = undefined
    })
    return this.#underWay
  }

  async #untilAnswered(): Promise<SourceStanding> {
    const { clock, signal, ask, note } = this.#parts
    for (let attempt = 1; ; attempt++) {
      try {
        return await ask(signal)
      } catch (error) {
        signal.throwIfAborted()
        if (!(error instanceof LinkError) && !(error instanceof PeerRefusal)) throw error
        note(`the source does not answer: ${error.message}`)
        await clock.sleep(retryDelayMs(attempt), signal)
      }
    }
  }
}
