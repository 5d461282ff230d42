// Zeroes a range of a block file, however long it is, in calls of bounded length.

import type { BlockFile } from '../store/files.ts'

/** Longest single zeroing call: it is answered before the next begins, so that others come in between. */
const zeroStepBytes = 1 * 2 ** 30

/** `allocated`: it keeps its room. `fast`: throws ENOTSUP where it would have to be written out. */
export async function zeroFile(
  file: BlockFile,
  offset: number,
  lengthBytes: number,
  how: { readonly allocated: boolean; readonly fast?: boolean },
): Promise<void> {
  for (let at = 0; at < lengthBytes; at += zeroStepBytes) {
    await file.zero(offset + at, Math.min(zeroStepBytes, lengthBytes - at), how.allocated, how.fast)
  }
}
