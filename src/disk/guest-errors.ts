// What guests were answered with, other than success: counted by error, and logged. However many there are, a line is
// written for the first of a kind, the second, the fourth and so on.

import type { GuestErrorCode } from '../guest/export.ts'

export interface GuestErrorsParts {
  readonly diskName: string
  /** For the log. */
  readonly errorNames: Readonly<Record<GuestErrorCode, string>>
  readonly log: (level: 'info' | 'warn', facts: Record<string, unknown>, message: string) => void
  readonly date: () => Date
}

export class GuestErrors {
  readonly #parts: GuestErrorsParts
  readonly #counts = new Map<GuestErrorCode, { readonly count: number; readonly last: string }>()
  readonly #logged = new Map<GuestErrorCode, number>()

  constructor(parts: GuestErrorsParts) {
    this.#parts = parts
  }

  get counts(): ReadonlyMap<GuestErrorCode, { readonly count: number; readonly last: string }> {
    return this.#counts
  }

  /** `client` was answered with `code`. */
  add(code: GuestErrorCode, client: string, reason: string): void {
    const { diskName, errorNames, log, date } = this.#parts
    const count = (this.#counts.get(code)?.count ?? 0) + 1
    this.#counts.set(code, { count, last: date().toISOString() })
    if (count < 2 * (this.#logged.get(code) ?? 0)) return
    this.#logged.set(code, count)
    // A hypervisor whose guest has moved is told so with its every request: that is no fault.
    const level = code === 'not-served' ? 'info' : 'warn'
    log(level, { disk: diskName, client, code: errorNames[code], count, reason }, 'a guest was answered with an error')
  }
}
