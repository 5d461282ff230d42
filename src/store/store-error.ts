// What the store throws when the world is at fault. The daemon gives it to the operator as a sentence.

export type StoreErrorCode =
  | 'in-use'
  | 'locked'
  | 'newer-format'
  | 'damaged'
  | 'not-raw'
  | 'too-large'
  | 'records-full'
  | 'records-failed'
  | 'records-locked'
  | 'short-file'
  | 'no-space'
  | 'closed'

/** Codes of what goes wrong in the middle of work; the others refuse to begin. */
const inTheMiddle: readonly StoreErrorCode[] = ['short-file', 'no-space', 'closed', 'records-failed', 'records-locked']

export class StoreError extends Error {
  readonly code: StoreErrorCode
  /** The exit code of the command that ends with it: refused, nothing changed; or, in the middle of work, 1. */
  readonly exit: 1 | 3
  readonly safe: string | undefined
  /** What to do next, in a sentence. */
  readonly next: string | undefined
  /** Of a commit: it is known that none of it will ever be found. */
  readonly nothingRecorded: boolean

  constructor(
    code: StoreErrorCode,
    message: string,
    options?: ErrorOptions & { next?: string | undefined; nothingRecorded?: boolean },
  ) {
    super(message, options)
    this.name = 'StoreError'
    this.code = code
    this.exit = inTheMiddle.includes(code) ? 1 : 3
    this.safe = this.exit === 3 ? 'Nothing was changed.' : undefined
    this.next = options?.next
    this.nothingRecorded = options?.nothingRecorded ?? false
  }
}
