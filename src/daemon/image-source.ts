// What a new disk's first bytes come from: a raw image, or an export of an NBD server. Opening one changes nothing.
//
// It runs in the daemon, with the daemon's rights: the daemon reads the file, or connects to the address, that the operator
// named, and nothing else. Whoever may use the control socket may do so.

import type { Files } from '../store/files.ts'
import { openNbdImage } from './nbd-image.ts'
import { copyImage, inspectRawImage } from './raw-image.ts'

export interface CopyTarget {
  readonly files: Files
  /** A block file of holes, at least as large as the image. */
  readonly path: string
  /** Bytes that may still be written to it without starving others. */
  spareBytes(): Promise<number>
  /** Bytes of the image dealt with so far. */
  progress(doneBytes: number): void
  readonly signal: AbortSignal
}

export interface ImageSource extends AsyncDisposable {
  readonly sizeBytes: number
  /** What it will take, as far as that is known beforehand. */
  readonly dataBytes: number
  /** Copies the data and syncs it. @throws Refusal */
  copyTo(target: CopyTarget): Promise<void>
}

/** `from` is an absolute path or an NBD URI. @throws Refusal */
export async function openImageSource(from: string, signal: AbortSignal): Promise<ImageSource> {
  if (!from.startsWith('/')) return openNbdImage(from, signal)
  const { sizeBytes, allocatedBytes } = await inspectRawImage(from)
  return {
    sizeBytes,
    dataBytes: allocatedBytes,
    copyTo: ({ files, path, progress, signal }) => copyImage(files, from, path, progress, signal),
    [Symbol.asyncDispose]: async () => {},
  }
}
