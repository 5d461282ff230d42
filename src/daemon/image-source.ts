// What a new disk's first bytes come from, as whoever makes the disk sees it: a size, and a copy into a block file of holes.

import type { ImageFormat } from '../image/image-formats.ts'
import type { Files } from '../store/files.ts'

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
  /** What it was taken for. */
  readonly format: ImageFormat
  /** What the operator may want to know of it; sentences. */
  readonly notes: readonly string[]
  /** What it will take, as far as that is known beforehand. */
  readonly dataBytes: number
  /** Copies the data and syncs it. @throws Refusal */
  copyTo(target: CopyTarget): Promise<void>
}
