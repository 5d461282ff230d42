// What guests were answered with, other than success: counted by error, and logged. However many there are, a line is
// written for the first of a kind, the second, the fourth and so on.

import type { NbdErrorCode } from '../guest/export.ts'

export interface GuestErrorsParts {
  readonly diskName: string
  readonly log: (level: 'info' | 'warn', facts: Record<string, unknown>, message: string) => void
  readonly date: () => Date
}

export class GuestErrors {
  readonly #parts: GuestErrorsParts
  readonly #counts = new Map<NbdErrorCode, { readonly count: number; readonly last: string }>()
  readonly #logged = new Map<NbdErrorCode, number>()

  constructor(parts: GuestErrorsParts) {
    this.#parts = parts
  }

  get counts(): Readonly<Record<string, { readonly count: number; readonly last: string }>> {
    return Object.fromEntries(this.#counts)
  }

  /** `client` was answered with `code`. */
  add(code: NbdErrorCode, client: string, reason: string): void {
    const { diskName, log, date } = this.#parts
    const count = (this.#counts.get(code)?.count ?? 0) + 1
    this.#counts.set(code, { count, last: date().toISOString() })
    if (count < 2 * (this.#logged.get(code) ?? 0)) return
    this.#logged.set(code, count)
    // A hypervisor whose guest has moved is told so with its every request: that is no fault.
    const level = code === 'ESHUTDOWN' ? 'info' : 'warn'
    log(level, { disk: diskName, client, code, count, reason }, 'a guest was answered with an error')
  }
}
