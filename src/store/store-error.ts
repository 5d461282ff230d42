// What the store throws when the world is at fault. The daemon gives it to the operator as a sentence.

export type StoreErrorCode =
  | 'in-use'
  | 'locked'
  | 'newer-format'
  | 'damaged'
  | 'not-raw'
  | 'short-file'
  | 'no-space'
  | 'closed'

export class StoreError extends Error {
  readonly code: StoreErrorCode
  /** What to do next, in a sentence. */
  readonly next: string | undefined

  constructor(code: StoreErrorCode, message: string, options?: ErrorOptions & { next?: string }) {
    super(message, options)
    this.name = 'StoreError'
    this.code = code
    this.next = options?.next
  }
}
