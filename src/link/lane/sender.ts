// The way out of a lane: frames are handed to the stream while less than `sendWindowBytes` of them are unsent; who comes later
// waits its turn, in order. So the memory behind a peer that reads slowly is bounded.

import type { Writable } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { giveBack } from '../../block/own-memory.ts'
import { aborted, type LinkError } from '../channel.ts'

/** Two pieces: one on its way to the kernel, one ready behind it. */
export const sendWindowBytes = 2 * 1024 * 1024

interface Waiter {
  readonly go: () => void
  readonly fail: (error: LinkError) => void
}

export class Sender {
  readonly #stream: Writable
  readonly #waiters: Waiter[] = []
  #unsentBytes = 0
  #error: LinkError | undefined

  constructor(stream: Writable) {
    this.#stream = stream
  }

  get unsentBytes(): number {
    return this.#unsentBytes
  }

  /** At once, for what is bounded elsewhere (hello, ping, cancel). `sent` runs when the bytes left, unless the lane broke. */
  push(bytes: Uint8Array, sent?: () => void): void {
    this.#write(bytes, sent)
    this.#next()
  }

  /**
   * Resolves when the parts are with the stream, in this order; rejects with LinkError when aborted or broken before.
   * `leaving` runs in the same synchronous step as the writes, which is the one that looked at the window.
   */
  async send(parts: readonly Uint8Array[], signal?: AbortSignal, leaving?: () => void): Promise<void> {
    if (this.#error) throw this.#error
    if (signal?.aborted) throw aborted(signal)
    if (this.#unsentBytes >= sendWindowBytes || this.#waiters.length > 0) await this.#turn(signal)
    leaving?.()
    for (const part of parts) this.#write(part)
    this.#next()
  }

  fail(error: LinkError): void {
    this.#error ??= error
    for (const waiter of this.#waiters.splice(0)) waiter.fail(this.#error)
  }

  #write(bytes: Uint8Array, sent?: () => void): void {
    if (this.#error) return
    const lengthBytes = bytes.length
    this.#unsentBytes += lengthBytes
    this.#stream.write(bytes, (error) => {
      this.#unsentBytes -= lengthBytes
      if (this.#stream instanceof TLSSocket) giveBack(bytes) // Encrypted. Other streams may have it at their other end.
      if (error) return
      sent?.()
      this.#next()
    })
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => signal?.removeEventListener('abort', onAbort)
      const waiter: Waiter = {
        go: () => {
          leave()
          resolve()
        },
        fail: (error) => {
          leave()
          reject(error)
        },
      }
      const onAbort = () => {
        const index = this.#waiters.indexOf(waiter)
        if (index < 0) return
        this.#waiters.splice(index, 1)
        reject(aborted(signal!))
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#waiters.push(waiter)
    })
  }

  #next(): void {
    if (this.#unsentBytes < sendWindowBytes) this.#waiters.shift()?.go()
  }
}
