// How much is on its way at once, of all disks of a move together: as much as the window says, and one request in any case.
//
// What always holds: whoever asked first goes first, so that no disk waits for ever beside another.

import type { Window } from './window.ts'

interface Waiting {
  readonly bytes: number
  readonly go: () => void
}

export class InFlight {
  readonly #window: Window
  #bytes = 0
  #waiting: Waiting[] = []

  constructor(window: Window) {
    this.#window = window
  }

  /** Resolves when so many bytes may be asked for; to be disposed of when they have come, or will not. */
  async take(bytes: number, signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted()
    if (this.#waiting.length > 0 || !this.#hasRoom(bytes)) await this.#wait(bytes, signal)
    else this.#bytes += bytes
    let isOver = false
    return {
      [Symbol.dispose]: () => {
        if (isOver) return
        isOver = true
        this.#bytes -= bytes
        this.#admit()
      },
    }
  }

  #wait(bytes: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        bytes,
        go: () => {
          signal.removeEventListener('abort', leave)
          resolve()
        },
      }
      const leave = () => {
        this.#waiting = this.#waiting.filter((each) => each !== waiting)
        reject(signal.reason)
        this.#admit()
      }
      signal.addEventListener('abort', leave, { once: true })
      this.#waiting.push(waiting)
    })
  }

  #admit(): void {
    for (let next = this.#waiting[0]; next && this.#hasRoom(next.bytes); next = this.#waiting[0]) {
      this.#waiting.shift()
      this.#bytes += next.bytes
      next.go()
    }
  }

  #hasRoom(bytes: number): boolean {
    return this.#bytes === 0 || this.#bytes + bytes <= this.#window.bytes
  }
}
