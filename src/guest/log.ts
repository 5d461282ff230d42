// Where a guest-facing server's messages go: facts first, then the sentence.

export interface ServerLog {
  debug(facts: object, message: string): void
  info(facts: object, message: string): void
  warn(facts: object, message: string): void
  error(facts: object, message: string): void
}
