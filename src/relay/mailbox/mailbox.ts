// Two sites talk about one move through a store: each puts one letter for the other, sealed, with all that it asks and answers
// now, replaces it when that changes, and looks for the other's.
//
// What always holds:
// - A letter that is cut, swapped, old or withheld only delays: it is looked for again, and ours is put again if it is not heeded.
// - Looking backs off to `idleMs` while nothing is expected, to `expectingMs` while something is; what happens makes it prompt.
// - One put and one get are under way at most, besides the chunks of answers.

import type { PeerChannel, PeerHandlers } from '../../link/channel.ts'
import type { ObjectStore } from '../../transport/index.ts'
import type { Chunks } from '../chunking/pool.ts'
import { SealError } from '../errors.ts'
import type { MailDirection, MoveKeys } from '../keys.ts'
import { keyOf, moveFolder } from '../names.ts'
import type { SealedAs } from '../seal.ts'
import { Answering } from './answering.ts'
import { Asking } from './asking.ts'
import { Bodies } from './bodies.ts'
import { type Letter, letterPosition, openLetter, sealLetter } from './letter.ts'
import { Sessions } from './sessions.ts'

const promptMs = 100
const expectingMs = 2000
const idleMs = 30_000
/** A letter of ours that may have been lost or overtaken is put again, less and less often. */
const firstAgainMs = 5000
const longestAgainMs = 5 * 60_000

export interface MailboxParts {
  /** One that tries again by itself (weather.ts). */
  readonly store: Pick<ObjectStore, 'put' | 'get' | 'delete'>
  readonly keys: MoveKeys
  readonly chunks: Chunks
  readonly move: string
  /** The one that the move makes. */
  readonly generation: number
  readonly side: 'source' | 'destination'
  readonly peerId: string
  readonly handlers: PeerHandlers
  readonly clock: {
    now(): number
    date(): Date
    sleep(durationMs: number, signal?: AbortSignal): Promise<void>
  }
  nonce(): string
  /** Once of each row of bad looks: what the relay gave is not what the other site put, or the store failed for good. */
  notice(why: { readonly is: 'forged' | 'store' | 'handler' | 'left'; readonly error: unknown }): void
}

export class Mailbox {
  readonly #parts: MailboxParts
  readonly #folder: string
  readonly #sessions: Sessions
  readonly #bodies: Bodies
  readonly #asking: Asking
  readonly #answering: Answering
  readonly #closed = new AbortController()
  #ran: Promise<void> | undefined
  /** Whether the letter that stands there says what is to be said. */
  #isSaid = false
  #number = 0
  #wake: AbortController | undefined
  #waitMs = promptMs
  #againMs = firstAgainMs
  #putAt = 0
  #isBad = false

  constructor(parts: MailboxParts) {
    this.#parts = parts
    const { store, keys, chunks, clock, peerId, handlers, notice } = parts
    this.#folder = moveFolder(keys.names)
    this.#sessions = new Sessions(clock.date().getTime(), parts.nonce)
    const sleep = clock.sleep
    this.#bodies = new Bodies({
      store,
      folder: this.#folder,
      chunks,
      sleep: (ms, signal) => sleep.call(clock, ms, signal),
    })
    const changed = (): void => this.#changed()
    this.#asking = new Asking({ peerId, bodies: this.#bodies, changed })
    this.#answering = new Answering({
      peerId,
      handlers,
      bodies: this.#bodies,
      changed,
      failed: (error) => notice({ is: 'handler', error }),
      left: (error) => notice({ is: 'left', error }),
    })
  }

  get channel(): PeerChannel {
    return this.#asking
  }

  /** Whether the other site has been heard since this one began. */
  get isOpen(): boolean {
    return this.#sessions.isOpen
  }

  start(): void {
    this.#ran ??= this.#run()
  }

  /** What is under way fails. The letters stay there, for the next start. */
  async close(): Promise<void> {
    this.#closed.abort(new Error('the mailbox is closed'))
    this.#asking.close()
    this.#answering.close()
    await this.#ran
  }

  /** Once the move is over, and this mailbox closed. @throws as the store */
  async clear(signal: AbortSignal): Promise<void> {
    const directions: MailDirection[] = ['to-source', 'to-destination']
    await this.#parts.store.delete(
      directions.map((direction) => keyOf(this.#folder, 'mail', letterPosition(direction))),
      { signal },
    )
  }

  get #isExpecting(): boolean {
    return this.#asking.requests.length > 0 || this.#answering.isBusy
  }

  #changed(): void {
    this.#isSaid = false
    this.#againMs = firstAgainMs
    this.#waitMs = promptMs
    this.#wake?.abort()
  }

  async #run(): Promise<void> {
    const { signal } = this.#closed
    while (!signal.aborted) {
      try {
        await this.#say(signal)
        await this.#look(signal)
        this.#isBad = false
      } catch (error) {
        if (signal.aborted) return
        if (!this.#isBad) this.#parts.notice({ is: error instanceof SealError ? 'forged' : 'store', error })
        this.#isBad = true
      }
      await this.#rest(signal)
    }
  }

  async #say(signal: AbortSignal): Promise<void> {
    const { clock, side, keys, store } = this.#parts
    if (this.#isSaid) {
      const isEnough = this.#sessions.isOpen && !this.#isExpecting
      if (isEnough || clock.now() - this.#putAt < this.#againMs) return
      this.#againMs = Math.min(longestAgainMs, 2 * this.#againMs)
    }
    // What changes from here on is for the next letter.
    this.#isSaid = true
    const direction = side === 'source' ? 'to-destination' : 'to-source'
    const { own, seen, isOpen } = this.#sessions
    const letter: Letter = {
      v: 1,
      session: own,
      to: seen ?? null,
      number: ++this.#number,
      requests: isOpen ? this.#asking.requests : [],
      answers: isOpen ? this.#answering.answers : [],
    }
    const as = this.#place(direction)
    try {
      await store.put(keyOf(this.#folder, 'mail', as.position), sealLetter(keys.mail(direction), as, letter), {
        signal,
      })
    } catch (error) {
      this.#isSaid = false
      throw error
    }
    this.#putAt = clock.now()
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { side, keys, store } = this.#parts
    const direction = side === 'source' ? 'to-source' : 'to-destination'
    const as = this.#place(direction)
    const sealed = await store.get(keyOf(this.#folder, 'mail', as.position), { signal })
    if (!sealed) return
    const letter = openLetter(keys.mail(direction), as, sealed)
    const wasOpen = this.#sessions.isOpen
    const { believed, renewed } = this.#sessions.read(letter)
    // What waited for a first letter was in none of ours yet.
    if (wasOpen && (renewed || believed === 'changed')) {
      this.#asking.restart()
      this.#answering.restart()
    }
    if (believed === 'ignored') return
    this.#waitMs = promptMs
    if (believed !== 'next') this.#changed()
    if (believed === 'met') return
    this.#answering.take(letter.requests)
    this.#asking.take(letter.answers)
  }

  async #rest(signal: AbortSignal): Promise<void> {
    if (!this.#isSaid && !this.#isBad) return
    const waitMs = Math.min(this.#waitMs, this.#isExpecting ? expectingMs : idleMs)
    this.#waitMs = Math.min(idleMs, 1.5 * waitMs)
    this.#wake = new AbortController()
    try {
      await this.#parts.clock.sleep(waitMs, AbortSignal.any([signal, this.#wake.signal]))
    } catch {
      // Closed, or there is something to say.
    }
    this.#wake = undefined
  }

  #place(direction: MailDirection): SealedAs {
    const { move, generation } = this.#parts
    return { move, kind: 'mail', position: letterPosition(direction), generation }
  }
}
