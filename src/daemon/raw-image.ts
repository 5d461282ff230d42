// Raw images that come from outside: how one is copied, sparse as it is.

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
  const zeros = Buffer.alloc(copyBytes)
  for (let at = 0; at < source.sizeBytes; ) {
    const [extent] = source.extents(at, source.sizeBytes - at, 1)
    const end = extent!.offset + extent!.length
    for (; extent!.kind === 'data' && at < end; progress(at)) {
      signal.throwIfAborted()
      const bytes = Buffer.allocUnsafeSlow(Math.min(copyBytes, end - at))
      await source.read(at, bytes)
      if (!bytes.equals(zeros.subarray(0, bytes.length))) await target.write(at, bytes)
      at += bytes.length
    }
    at = end
    progress(at)
  }
}
