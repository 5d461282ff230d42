// Bytes that a site has already, and that may spare sending: the copy of the disk that it kept, another disk, an image. What they
// are is not known: a range of them is used when its digest is the source's, and never else.

import { withOwnMemory } from '../../block/own-memory.ts'
import type { Extent } from '../../block/units.ts'

export interface Seed {
  /** For people. */
  readonly name: string
  readonly sizeBytes: number
  /** Its cells are indexed from the start, and the copy waits a moment for that: the operator named it. */
  readonly isNamed: boolean
  /** Fills `target`. It may change while it is read: what is hashed and what is used are the same bytes in memory. */
  read(offset: number, target: Uint8Array): void | Promise<void>
  /** At least one extent from `offset` on, in order, at most `limit`, within `lengthBytes`. */
  extents(offset: number, lengthBytes: number, limit: number): readonly Extent[]
  close(): Promise<void>
}

/** What this site has that may be a seed, by the names that operators use: a disk's, or a raw image's. */
export interface SeedShelf {
  /** Why the site of a peer may not have it used here, as a sentence for its operator; undefined: it may. */
  refusal(name: string, peerId: string): Promise<string | undefined>
  /** What is kept here of a disk that left, of moves with that peer. */
  kept(diskId: string, peerId: string): Promise<Seed | undefined>
  /** undefined: there is no such thing any more, or it cannot be read. `except`: the id of the disk that it is a seed for. */
  open(name: string, except: string): Promise<Seed | undefined>
  /** The operator of this site names it for what comes from that peer, until the daemon ends. */
  allow(name: string, peerId: string): void
}

/** A file, or whatever is read as one. */
export function seedOf(file: Omit<Seed, 'name' | 'isNamed'>, name: string, isNamed: boolean): Seed {
  return {
    name,
    isNamed,
    sizeBytes: file.sizeBytes,
    read: (offset, target) => file.read(offset, target),
    extents: (offset, lengthBytes, limit) => file.extents(offset, lengthBytes, limit),
    close: () => file.close(),
  }
}

/** What one digest speaks of first; where it differs, blocks of it are asked for. */
export const cellBytes = 64 * 1024

/** Whether the seed has data in the range, all of which lies in it. */
export function hasDataAt(seed: Seed, offset: number, lengthBytes: number): boolean {
  if (offset + lengthBytes > seed.sizeBytes) return false
  const [extent] = seed.extents(offset, lengthBytes, 1)
  return extent !== undefined && (extent.data || extent.length < lengthBytes)
}

/** The bytes of a range; undefined: they cannot be read. */
export async function readSeed(seed: Seed, offset: number, lengthBytes: number): Promise<Buffer | undefined> {
  const bytes = withOwnMemory(Buffer.allocUnsafeSlow(lengthBytes))
  try {
    await seed.read(offset, bytes)
    return bytes
  } catch {
    return undefined // What cannot be read spares nothing.
  }
}
