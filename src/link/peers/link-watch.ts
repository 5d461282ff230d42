// Whether a peer is heard of, since when, and why not: what operators are told of a link. Nothing is decided by it.
//
// What always holds: the link is up while a lane is open and not silent. Of one outage these are told, once each and in this
// order: down, the first retry, that retry's failure, up; and, whoever dialled, that the peer speaks another version. A peer
// that was never spoken to is down when a dial has failed, or when whoever waits for it to dial has waited for a while. A link
// that breaks as soon as it is up, again and again, is told of quietly, until it has been down for a while.

import type { Timers } from '../../block/clock.ts'

export interface LinkFacts {
  /** untried: nobody has wanted to speak with the peer since this site started. */
  readonly state: 'up' | 'down' | 'untried'
  /** Since when: milliseconds of the time of day. */
  readonly sinceMs: number
  /** down: a sentence's end; what broke it, or why the last dial failed. */
  readonly why: string | undefined
}

/** `isQuiet`: no news, of a link that flaps. */
export type LinkEvent = { readonly isQuiet: boolean } & (
  | { readonly kind: 'down'; readonly why: string; readonly wasUpMs: number | undefined }
  /** This site dials again. */
  | { readonly kind: 'retry' }
  | { readonly kind: 'retry-failed'; readonly why: string }
  /** It can be reached, and speaks another version. */
  | { readonly kind: 'refused'; readonly why: string }
  | { readonly kind: 'up'; readonly wasDownMs: number | undefined }
)

type Told<Event = LinkEvent> = Event extends LinkEvent ? Omit<Event, 'isQuiet'> : never

/** How long a peer that has to dial is waited for, before it is said to be away. */
export const absentMs = 5000
/** A link that was up for less flaps. */
export const flapMs = 2000

export interface LinkWatchOptions {
  readonly clock: Timers
  /** Milliseconds of the time of day. */
  readonly dateMs: () => number
  readonly tell: (event: LinkEvent) => void
}

export class LinkWatch {
  readonly #options: LinkWatchOptions
  #state: LinkFacts['state'] = 'untried'
  #sinceMs: number
  #why: string | undefined
  /** Of this outage. */
  #told: 'down' | 'retry' | 'retry-failed' = 'down'
  /** Of this outage: why the peer was refused, as it was told. */
  #refusal: string | undefined
  #absence: Disposable | undefined
  /** How often in a row it broke as soon as it was up. */
  #flaps = 0
  #isQuiet = false

  constructor(options: LinkWatchOptions) {
    this.#options = options
    this.#sinceMs = options.dateMs()
  }

  get facts(): LinkFacts {
    return { state: this.#state, sinceMs: this.#sinceMs, why: this.#state === 'down' ? this.#why : undefined }
  }

  /** A lane is there that is not silent. */
  heard(): void {
    if (this.#state === 'up') return
    const wasDown = this.#state === 'down'
    const lastedMs = this.#change('up')
    this.#why = undefined
    this.#tell({ kind: 'up', wasDownMs: wasDown ? lastedMs : undefined })
  }

  /** No lane is left that is not silent. */
  lost(why: string): void {
    if (this.#state === 'up') this.#goesDown(why)
    else if (this.#state === 'down' && this.#told === 'down') this.#why = why // The silence has become a break.
  }

  /** Somebody needs the peer from now on. */
  wanted(): void {
    if (this.#state !== 'untried' || this.#absence) return
    this.#absence = this.#options.clock.after(absentMs, () => {
      if (this.#state === 'untried') this.#goesDown('it has not been heard of since this site started')
    })
  }

  dialling(): void {
    if (this.#state !== 'down' || this.#told !== 'down') return
    this.#told = 'retry'
    this.#tell({ kind: 'retry' })
  }

  dialFailed(why: string): void {
    if (this.#state === 'untried') {
      this.#goesDown(why)
      this.#told = 'retry-failed'
      return
    }
    if (this.#state !== 'down') return
    this.#why = why
    if (this.#told === 'retry-failed') return
    this.#told = 'retry-failed'
    this.#tell({ kind: 'retry-failed', why })
  }

  /** The peer speaks another version, whoever dialled. */
  refused(why: string): void {
    if (this.#state === 'up') return
    if (this.#state === 'untried') {
      this.#goesDown(why)
      this.#told = 'retry-failed'
      this.#refusal = why
      return
    }
    this.#why = why
    if (this.#refusal === why) return
    this.#refusal = why
    this.#told = 'retry-failed'
    this.#tell({ kind: 'refused', why })
  }

  /** Nobody is told anything any more. */
  close(): void {
    this.#absence?.[Symbol.dispose]()
  }

  #goesDown(why: string): void {
    const wasUp = this.#state === 'up'
    const lastedMs = this.#change('down')
    this.#why = why
    this.#told = 'down'
    this.#refusal = undefined
    const wasUpMs = wasUp ? lastedMs : undefined
    this.#flaps = wasUp && lastedMs < flapMs ? this.#flaps + 1 : 0
    this.#isQuiet = this.#flaps > 1
    this.#tell({ kind: 'down', why, wasUpMs })
    if (!this.#isQuiet) return
    this.#absence = this.#options.clock.after(absentMs, () => {
      this.#isQuiet = false
      this.#told = 'down' // What follows is told once more too.
      this.#tell({ kind: 'down', why: this.#why ?? why, wasUpMs })
    })
  }

  #tell(event: Told): void {
    this.#options.tell({ ...event, isQuiet: this.#isQuiet })
  }

  /** Returns how long the state before has lasted. */
  #change(state: LinkFacts['state']): number {
    const nowMs = this.#options.dateMs()
    const lastedMs = Math.max(0, nowMs - this.#sinceMs)
    this.#absence?.[Symbol.dispose]()
    this.#absence = undefined
    this.#state = state
    this.#sinceMs = nowMs
    return lastedMs
  }
}
