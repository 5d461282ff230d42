// One place for a connection of a SteadyNbdClient: dialled when a request needs it, forgotten when it breaks, and then left
// to rest for a while that doubles with each failure. Knows what was written over it and is not known to be durable.
// Always: at most one dial is under way; a break is counted once; a connection that is dirty when it breaks stays dirty.

import type { NbdClient } from './client.ts'
import { NbdRequestError } from './errors.ts'

export const firstRestMs = 100
export const restMaxMs = 5_000

export interface SteadyConnectionParts {
  dial(): Promise<NbdClient>
  /** The connection ended, whether or not a request was under way. */
  onBreak(connection: SteadyConnection): void
  nowMs(): number
  /** 0 <= value < 1 */
  random(): number
}

export class SteadyConnection {
  readonly #parts: SteadyConnectionParts
  #client: NbdClient | undefined
  #dialling: Promise<NbdClient> | undefined
  #failures = 0
  #answers = 0
  #restsUntilMs = 0
  #writesInFlight = 0
  /** Of writes that were answered: how many, and how many of them a flush has covered. */
  #answeredWrites = 0
  #durableWrites = 0
  /** Requests that have chosen this connection and are not over. */
  load = 0

  constructor(parts: SteadyConnectionParts) {
    this.#parts = parts
  }

  get client(): NbdClient | undefined {
    return this.#client
  }

  /** When it may be dialled again. */
  get restsUntilMs(): number {
    return this.#restsUntilMs
  }

  /** Something was written over it that a crash of the server may take away, or may not have reached it. */
  get isDirty(): boolean {
    return this.#writesInFlight > 0 || this.#answeredWrites > this.#durableWrites
  }

  /** Rejects with what keeps the connection from being made. */
  open(): Promise<NbdClient> {
    if (this.#client !== undefined) return Promise.resolve(this.#client)
    this.#dialling ??= this.#dial().finally(() => {
      this.#dialling = undefined
    })
    return this.#dialling
  }

  /** Requests that the server has answered over it. */
  get answers(): number {
    return this.#answers
  }

  /** The server has answered: breaks from now on are new ones. */
  answered(): void {
    this.#answers++
    this.#failures = 0
  }

  /** Forgets `client`, which does not work any more. */
  broke(client: NbdClient): void {
    if (this.#client !== client) return
    this.#client = undefined
    this.#rest()
    this.#parts.onBreak(this)
  }

  /** Counts a write from before it is sent. `isDurable`: its answer says that it is (FUA). */
  async write(isDurable: boolean, send: () => Promise<void>): Promise<void> {
    this.#writesInFlight++
    try {
      await send()
    } catch (error) {
      // The server's own refusal ends the write. In any other case nobody knows whether it is still on its way.
      if (error instanceof NbdRequestError) this.#writesInFlight--
      throw error
    }
    this.#writesInFlight--
    if (!isDurable) this.#answeredWrites++
  }

  /** A flush covers the writes that were answered before it was sent. */
  async flush(send: () => Promise<void>): Promise<void> {
    const covered = this.#answeredWrites
    await send()
    this.#durableWrites = Math.max(this.#durableWrites, covered)
  }

  async #dial(): Promise<NbdClient> {
    try {
      const client = await this.#parts.dial()
      this.#client = client
      client.closed.then(() => this.broke(client))
      return client
    } catch (error) {
      this.#rest()
      throw error
    }
  }

  /** Doubles with each failure; spread by half, so that many clients do not come back at the same instant. */
  #rest(): void {
    const ceilingMs = Math.min(restMaxMs, firstRestMs * 2 ** Math.min(this.#failures, 10))
    this.#failures++
    this.#restsUntilMs = this.#parts.nowMs() + ceilingMs * (0.5 + this.#parts.random() / 2)
  }
}
