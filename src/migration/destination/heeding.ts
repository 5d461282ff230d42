// The source, as its destination asks it: whatever it refuses is heard in one place too, for any refusal may say that the disk
// is superseded.

import type { SourceDesk } from '../counterpart.ts'

/** `heed` is told each failure, and is done with it before whoever asked is told. Blocks are not asked through here: see RemoteBlocks. */
export function heeding(source: SourceDesk, heed: (error: unknown) => Promise<void>): SourceDesk {
  const heeded = async <Answer>(work: Promise<Answer>): Promise<Answer> => {
    try {
      return await work
    } catch (error) {
      await heed(error)
      throw error
    }
  }
  return {
    inquire: (signal) => heeded(source.inquire(signal)),
    acquire: (asked, signal) => heeded(source.acquire(asked, signal)),
    flush: (disk, signal) => heeded(source.flush(disk, signal)),
    taken: (said, signal) => heeded(source.taken(said, signal)),
    extents: (disk, run, signal) => heeded(source.extents(disk, run, signal)),
    digests: (disk, runs, signal) => heeded(source.digests(disk, runs, signal)),
    blocks: (disk, runs, options) => source.blocks(disk, runs, options),
    progress: (said, signal) => heeded(source.progress(said, signal)),
    guests: (said, signal) => heeded(source.guests(said, signal)),
    paused: (isPaused, signal) => heeded(source.paused(isPaused, signal)),
    complete: (said, signal) => heeded(source.complete(said, signal)),
    cancel: (signal) => heeded(source.cancel(signal)),
  }
}
