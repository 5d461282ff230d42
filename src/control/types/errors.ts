// How what went wrong travels, and how a command exits. Stable: scripts rely on both.

/** Exit codes, and the codes of errors. Stable: scripts rely on them. */
export const ExitCode = {
  done: 0,
  other: 1,
  usage: 2,
  refused: 3,
  failedSourceOwns: 4,
  failedDestinationOwns: 5,
  ownerUnknown: 6,
  detached: 7,
} as const
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode]

/** An error as a sentence: what failed, on which disk, what is safe now, what to do next. */
export interface ErrorView {
  /** A stable symbolic name, such as `disk-exists`, `peer-unreachable`. */
  readonly code: string
  readonly message: string
  readonly exit: ExitCode
  readonly disk?: string
  readonly safe?: string
  readonly next?: string
}
