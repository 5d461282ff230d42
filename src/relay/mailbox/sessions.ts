// Which letters are believed: those of the newest session of the other site, in the order of their numbers. Pure.
//
// What always holds:
// - A letter is believed only if it names this site's session, which is new with each start: it was written since. So nothing
//   of the time before is done again, whatever the store gives out.
// - No letter is believed after a newer one. A store that gives an old one delays, and no more.

import type { Letter, Session } from './letter.ts'

/** ignored: nothing new. met: it names no session of ours yet, so ours has to be told. changed: the first of a new session. */
export type Believed = 'ignored' | 'met' | 'changed' | 'next'

export class Sessions {
  #own: Session
  readonly #nonce: () => string
  #other: { readonly session: Session; number: number } | undefined
  #seen: Session | undefined

  constructor(dateMs: number, nonce: () => string) {
    this.#nonce = nonce
    this.#own = { number: dateMs, nonce: nonce() }
  }

  get own(): Session {
    return this.#own
  }

  /** What our letters name. */
  get seen(): Session | undefined {
    return this.#seen
  }

  get isOpen(): boolean {
    return this.#other !== undefined
  }

  /** Takes it in. `renewed`: ours was not the newest that the other site knows of, and is now; all before it is void. */
  read(letter: Letter): { readonly believed: Believed; readonly renewed: boolean } {
    const { session, to, number } = letter
    if (to && to.nonce !== this.#own.nonce && to.number >= this.#own.number && this.#isNotOld(session)) {
      // A clock went back between two starts: a session has to be above what the other site believes already.
      this.#own = { number: to.number + 1, nonce: this.#nonce() }
      this.#other = undefined
      this.#seen = session
      return { believed: 'met', renewed: true }
    }
    if (to?.nonce !== this.#own.nonce) {
      if (this.#seen?.nonce === session.nonce || !this.#isNotOld(session))
        return { believed: 'ignored', renewed: false }
      this.#seen = session
      return { believed: 'met', renewed: false }
    }
    if (this.#other?.session.nonce === session.nonce) {
      if (number <= this.#other.number) return { believed: 'ignored', renewed: false }
      this.#other.number = number
      return { believed: 'next', renewed: false }
    }
    if (this.#other && session.number <= this.#other.session.number) {
      // Of a clock that went back it has to hear of the one that is believed: our letters name it.
      this.#seen = this.#other.session
      return { believed: 'ignored', renewed: false }
    }
    this.#other = { session, number }
    this.#seen = session
    return { believed: 'changed', renewed: false }
  }

  /** While nothing is believed yet, whatever is there may be the newest. */
  #isNotOld({ number, nonce }: Session): boolean {
    return !this.#other || nonce === this.#other.session.nonce || number > this.#other.session.number
  }
}
