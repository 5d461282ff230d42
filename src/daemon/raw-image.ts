// Raw images that come from outside: how one is copied: without its holes, and without its blocks of zeros.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { nonZeroExtents } from '../block/zeros.ts'
import type { BlockFile, Files } from '../store/files.ts'

const copyBytes = 2 ** 20

/** Copies the data of an image into a block file of holes, and syncs it. `progress` gets bytes of the image walked so far. */
export async function copyImage(
  files: Files,
  from: string,
  to: string,
  progress: (doneBytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const source = await files.openBlockFile(from, true)
  try {
    const target = await files.openBlockFile(to, false)
    try {
      await copyExtents(source, target, progress, signal)
      await target.sync()
    } finally {
      await target.close()
    }
  } finally {
    await source.close()
  }
}

async function copyExtents(
  source: BlockFile,
  target: BlockFile,
  progress: (doneBytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  for (let at = 0; at < source.sizeBytes; ) {
    const [extent] = source.extents(at, source.sizeBytes - at, 1)
    const end = extent!.offset + extent!.length
    for (; extent!.data && at < end; progress(at)) {
      await nextTurn() // Reads of what is cached and short writes are done at once: guests are served in between.
      signal.throwIfAborted()
      const bytes = Buffer.allocUnsafeSlow(Math.min(copyBytes, end - at))
      await source.read(at, bytes)
      for (const data of nonZeroExtents(bytes, at))
        await target.write(at + data.from, bytes.subarray(data.from, data.end))
      at += bytes.length
    }
    at = end
    progress(at)
  }
}
