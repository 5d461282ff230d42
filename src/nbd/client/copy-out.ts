// Copies the data of an export out of it. What the server calls zero is not read; what is read is given without its zero
// blocks. Without `base:allocation` everything is read.
// Always: at most `readsInFlight` reads of `chunkBytes` are held at a time; `give` gets no byte twice and no order is kept;
// once the copy has ended, in whichever way, nothing of it is under way.

import { blockSizeBytes } from '../../block/block-size.ts'
import { nonZeroExtents } from '../../block/zeros.ts'
import { AllocationFlag } from '../wire/constants.ts'
import type { ContextExtent } from '../wire/transmission-codecs.ts'
import type { Range } from './block-sizes.ts'
import { NbdRequestError } from './errors.ts'
import type { SteadyNbdClient } from './steady-client.ts'

export const allocationContext = 'base:allocation'
const chunkBytes = 2 ** 20
const readsInFlight = 16
/** Asked about at once. A reply with an extent for each block of it still is one that the client takes. */
const statusBytes = 131_072 * blockSizeBytes
/** Progress is told about as often. */
const progressSteps = 1000

export interface CopyOutOptions {
  readonly signal: AbortSignal
  /** Takes bytes of the export. They are the taker's. */
  give(offset: number, bytes: Uint8Array): void | Promise<void>
  /** Bytes of the export that have been dealt with, zeros among them. */
  progress(doneBytes: number): void
}

/** What the copy reads from. */
export type CopySource = Pick<SteadyNbdClient, 'info' | 'contexts' | 'read' | 'blockStatus'>

/** Resolves to the bytes that were given. Throws what a read or `give` threw, or the signal's reason. */
export async function copyOut(client: CopySource, options: CopyOutOptions): Promise<number> {
  const stop = new AbortController()
  const signal = AbortSignal.any([options.signal, stop.signal])
  const { sizeBytes } = client.info()
  const walked = progressOf(sizeBytes, options.progress)
  const ranges = dataRanges(client, signal, walked)
  let givenBytes = 0
  const work = async () => {
    for (let next = await ranges.next(); !next.done; next = await ranges.next()) {
      const { offset, lengthBytes } = next.value
      const bytes = await client.read(offset, lengthBytes, { signal })
      for (const { from, end } of nonZeroExtents(bytes, offset)) {
        signal.throwIfAborted()
        await options.give(offset + from, bytes.subarray(from, end))
        givenBytes += end - from
      }
      walked(lengthBytes)
    }
  }
  const workers = Array.from({ length: readsInFlight }, () => work().catch((error: unknown) => stop.abort(error)))
  await Promise.all(workers)
  signal.throwIfAborted()
  return givenBytes
}

/** Where data may be, in pieces of at most a chunk that end on multiples of it. */
async function* dataRanges(
  client: CopySource,
  signal: AbortSignal,
  walked: (bytes: number) => void,
): AsyncGenerator<Range, undefined> {
  const { sizeBytes } = client.info()
  for (let at = 0; at < sizeBytes; ) {
    for (const extent of await extentsFrom(client, at, Math.min(statusBytes, sizeBytes - at), signal)) {
      const end = Math.min(sizeBytes, at + extent.lengthBytes) // The last extent may reach beyond what was asked.
      if ((extent.flags & AllocationFlag.zero) !== 0) {
        walked(end - at)
        at = end
      }
      while (at < end) {
        const next = Math.min(end, (Math.floor(at / chunkBytes) + 1) * chunkBytes)
        yield { offset: at, lengthBytes: next - at }
        at = next
      }
    }
  }
}

/** A hole that is not said to read as zeros is data; so is what the server says nothing of. */
async function extentsFrom(
  client: CopySource,
  offset: number,
  lengthBytes: number,
  signal: AbortSignal,
): Promise<readonly ContextExtent[]> {
  const allData = [{ lengthBytes, flags: 0 }]
  if (!client.contexts.includes(allocationContext)) return allData
  try {
    const statuses = await client.blockStatus(offset, lengthBytes, { signal })
    return statuses.get(allocationContext) ?? allData
  } catch (error) {
    if (error instanceof NbdRequestError) return allData // The reads will say whether the bytes can be had.
    throw error
  }
}

function progressOf(totalBytes: number, tell: (doneBytes: number) => void): (bytes: number) => void {
  let doneBytes = 0
  let toldBytes = 0
  return (bytes) => {
    doneBytes += bytes
    if (doneBytes - toldBytes < totalBytes / progressSteps && doneBytes < totalBytes) return
    toldBytes = doneBytes
    tell(doneBytes)
  }
}
