// The one shape in which errors travel between the daemon, its clients and the operator.
// An error is recognised by its fields (code, message, exit), never by its class: it may have crossed a socket.

import type { ErrorView, ExitCode } from './types.ts'

/** An ErrorView that can be thrown. */
export class ControlError extends Error implements ErrorView {
  readonly code: string
  readonly exit: ExitCode
  readonly disk?: string
  readonly safe?: string
  readonly next?: string

  constructor(view: ErrorView, options?: ErrorOptions) {
    super(view.message, options)
    this.name = 'ControlError'
    this.code = view.code
    this.exit = view.exit
    if (view.disk !== undefined) this.disk = view.disk
    if (view.safe !== undefined) this.safe = view.safe
    if (view.next !== undefined) this.next = view.next
  }

  get view(): ErrorView {
    return errorViewOf(this)!
  }
}

/** The view that `error` carries, and nothing else of it; undefined for any other value. */
export function errorViewOf(error: unknown): ErrorView | undefined {
  if (typeof error !== 'object' || error === null) return undefined
  const { code, message, exit, disk, safe, next } = error as Record<string, unknown>
  if (typeof code !== 'string' || typeof message !== 'string') return undefined
  // A system error has code and message too; only ours says how the command is to exit.
  if (typeof exit !== 'number' || !Number.isInteger(exit) || exit < 1 || exit > 7) return undefined
  return {
    code,
    message,
    exit: exit as ExitCode,
    ...(typeof disk === 'string' && { disk }),
    ...(typeof safe === 'string' && { safe }),
    ...(typeof next === 'string' && { next }),
  }
}
