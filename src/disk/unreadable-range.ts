// A range of a disk that its storage does not give back: which, of which disk, and why.

import type { Run } from '../block/units.ts'

export class UnreadableRange extends Error {
  readonly diskName: string
  readonly run: Run
  /** A code such as EIO, or what was said. */
  readonly why: string

  constructor(diskName: string, run: Run, cause: unknown) {
    const why = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message
    super(`${run.length} bytes at ${run.offset} of ${diskName} cannot be read (${why})`, { cause })
    this.name = 'UnreadableRange'
    this.diskName = diskName
    this.run = run
    this.why = why
  }
}
