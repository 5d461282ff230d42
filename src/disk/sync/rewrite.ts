// Writes what a file holds once more, so that the next sync covers it: after a sync that failed, the kernel counts pages as
// clean that never reached the disk, and a second sync of them says nothing. Data is read and written, holes are punched anew.

import type { BlockFile } from '../../store/files.ts'

const stepBytes = 2 ** 20

/** Nobody else writes to the range meanwhile. Rejects with the reason of `signal`, between two steps. */
export async function rewrite(
  file: BlockFile,
  offset: number,
  lengthBytes: number,
  signal?: AbortSignal,
): Promise<void> {
  const end = offset + lengthBytes
  const bytes = Buffer.alloc(Math.min(stepBytes, lengthBytes))
  for (let at = offset; at < end; ) {
    signal?.throwIfAborted()
    const [extent] = file.extents(at, end - at, 1)
    const extentEnd = extent!.offset + extent!.length
    if (!extent!.data) {
      await file.zero(at, extentEnd - at, false)
      at = extentEnd
      continue
    }
    for (; at < extentEnd; at += bytes.length) {
      signal?.throwIfAborted()
      const part = bytes.subarray(0, Math.min(bytes.length, extentEnd - at))
      await file.read(at, part)
      await file.write(at, part)
    }
    at = extentEnd
  }
}
