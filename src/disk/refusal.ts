// What an operator is told when something cannot be done: a sentence, what is safe now, what to do next, and the exit code
// of the command that asked (DESIGN.md section 8). Thrown where it is found out, printed where it ends.

export type RefusalExit = 1 | 2 | 3 | 4 | 5 | 6

export interface RefusalFacts extends ErrorOptions {
  /** 3, refused and nothing changed, unless said otherwise. */
  readonly exit?: RefusalExit
  readonly disk?: string
  readonly safe?: string
  readonly next?: string
  /** The message as another site is told it, to whom `here` is `there`. */
  readonly toPeer?: string
}

export class Refusal extends Error {
  /** A stable symbolic name, such as `disk-exists`. */
  readonly code: string
  readonly exit: RefusalExit
  readonly disk: string | undefined
  readonly safe: string | undefined
  readonly next: string | undefined
  readonly toPeer: string

  constructor(code: string, message: string, facts: RefusalFacts = {}) {
    super(message, facts.cause === undefined ? {} : { cause: facts.cause })
    this.name = 'Refusal'
    this.code = code
    this.exit = facts.exit ?? 3
    this.disk = facts.disk
    this.safe = facts.safe
    this.next = facts.next
    this.toPeer = facts.toPeer ?? message
  }
}
