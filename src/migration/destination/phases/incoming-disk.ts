// What an incoming disk needs of the source, for itself: its newest bytes (forwarded-reads.ts), and syncs of what the source has
// answered of it (forwarded-flushes.ts). When it is taken is the move's business (incoming.ts).

import type { ComingDisk } from '../coming-disk.ts'
import { ForwardedFlushes } from '../forwarded-flushes.ts'
import { ForwardedReads } from '../forwarded-reads.ts'
import type { DestinationHost } from '../host.ts'
import type { PassedRightParts } from '../passed-right.ts'
import { RemoteBlocks } from '../remote-blocks.ts'

export interface IncomingDiskParts {
  readonly host: DestinationHost
  readonly coming: ComingDisk
  readonly right: Omit<PassedRightParts, 'diskName'>
  /** Aborts when the disks are not incoming any more, or this site stops. */
  readonly passed: AbortSignal
  hearBoot<Answer extends { readonly boot: string | null }>(answer: Answer): Answer
  /** The boot id of the source's kernel as it was last heard; null: it never said one. */
  sourceBoot(): string | null
  /** A guest's write came, and waits until this site owns. Rejects with a GuestError, or when the guest goes. */
  hold(diskName: string, signal: AbortSignal): Promise<void>
}

export class IncomingDisk {
  readonly #parts: IncomingDiskParts
  readonly reads: ForwardedReads
  readonly flushes: ForwardedFlushes

  constructor(parts: IncomingDiskParts) {
    this.#parts = parts
    const { host, coming, passed, hearBoot, sourceBoot } = parts
    const { clock } = host.services
    const right: PassedRightParts = { ...parts.right, diskName: coming.name }
    this.reads = new ForwardedReads({
      ...right,
      clock,
      remote: (refused) =>
        new RemoteBlocks({
          ...coming.remoteParts(coming.before),
          refused: async (error, signal) => {
            await host.heed(error)
            return refused(error, signal)
          },
        }),
    })
    this.flushes = new ForwardedFlushes({
      ...right,
      clock,
      stallTimeoutMs: host.course.terms.stallTimeoutMs,
      signal: AbortSignal.any([coming.working, passed]),
      ask: async (signal) => hearBoot(await host.source.flush(coming.before, signal)),
      sourceBoot,
    })
  }

  askSwitchover(signal: AbortSignal): Promise<void> {
    return this.#parts.hold(this.#parts.coming.name, signal)
  }
}
